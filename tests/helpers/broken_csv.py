"""Every kind of broken CSV that is known, with what becomes of it: the table of docs/reliability.md."""

from __future__ import annotations

import gzip
from dataclasses import dataclass

from lakefeed_producer.csv.rejects import Reason


@dataclass(frozen=True)
class Broken:
    """One kind of broken file.

    Attributes:
        kind: what is wrong, in words.
        content: bytes of the file; None if there is none.
        outcome: reason of each reject, or what the message says.
        code: exit code of `publish`.
        events: values of the first column of the events that go out all the same.
        options: of the command.
    """

    kind: str
    content: bytes | None
    outcome: Reason | str
    code: int
    events: tuple[str | int | None, ...] = ()
    options: tuple[str, ...] = ()


def _row(
    kind: str, content: bytes, reason: Reason, *events: str | int | None, options: tuple[str, ...] = ()
) -> Broken:
    return Broken(kind, content, reason, 3, events, options)


def _file(kind: str, content: bytes | None, message: str, *options: str) -> Broken:
    return Broken(kind, content, message, 1, (), options)


def _fine(kind: str, content: bytes, *events: str | int | None, options: tuple[str, ...] = ()) -> Broken:
    return Broken(kind, content, "published", 0, events, options)


MARKED = b"\xef\xbb\xbfa,b\n1,2\n"
NOTES = b"Site: 3 Lat: 45.3 Lon: 7.2\n" * 30
CP1252 = ("--encoding", "cp1252")
NO_QUOTING = ("--quoting", "none")
PLAIN = b'a,b\n1,"x\n2,"y" z\n3,"\n'
SCHEMA = ("--schema", "s.json")
LONG = b"a,b\n1," + b"x" * 5_000_000 + b"\n3,4\n"
LARGE = b"a,b\n1," + b"x" * 1_100_000 + b"\n3,4\n"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
HUGE = b"x" * 200_000

BROKEN = [
    # ---- rows that are rejected; the others are published
    _row("a row with a field too few", b"a,b\n1,2\n3\n4,5\n", Reason.TOO_FEW_FIELDS, 1, 4),
    _row("a row with a field too many", b"a,b\n1,2\n3,4,5\n6,7\n", Reason.TOO_MANY_FIELDS, 1, 6),
    _row("a delimiter at the end of a row", b"a,b\n1,2,\n3,4\n", Reason.TOO_MANY_FIELDS, 3),
    _row("a decimal comma without quotes", b"a,b\n1,2\n3,4,5\n", Reason.TOO_MANY_FIELDS, 1),
    _row("a row of another delimiter", b"a,b\n1;2\n3,4\n", Reason.TOO_FEW_FIELDS, 3),
    _row("a comment or a total below the rows", b"a,b\n1,2\nSum: 2\n", Reason.TOO_FEW_FIELDS, 1),
    _row("a row that is cut off at the end of the file", b"a,b\n1,2\n3", Reason.TOO_FEW_FIELDS, 1),
    _row("a quote that is not closed", b'a,b\n1,"x\n3,4\n', Reason.BAD_QUOTES, 3),
    _row("a quote that is not closed in the last row", b'a,b\n1,2\n3,"4', Reason.BAD_QUOTES, 1),
    _row("text behind a closing quote", b'a,b\n1,"x"y\n3,4\n', Reason.BAD_QUOTES, 3),
    _row("a quote inside quotes that is not doubled", b'a,b\n1,"5" disk"\n3,4\n', Reason.BAD_QUOTES, 3),
    _row("a quote escaped with a backslash", b'a,b\n1,"x \\"y\\" z"\n3,4\n', Reason.BAD_QUOTES, 3),
    _row("a byte that is not UTF-8", b"a,b\n1,caf\xe9\n3,4\n", Reason.BAD_ENCODING, 3),
    _row("a UTF-8 character that is cut off", b"a,b\n1,\xe2\x82\n3,4\n", Reason.BAD_ENCODING, 3),
    _row("a UTF-16 surrogate in UTF-8", b"a,b\n1,\xed\xa0\x80\n3,4\n", Reason.BAD_ENCODING, 3),
    _row(
        "a byte that the named encoding lacks", b"a,b\n1,\x81\n3,4\n", Reason.BAD_ENCODING, 3, options=CP1252
    ),
    _row("a NUL byte in a row", b"a,b\n1,x\0y\n3,4\n", Reason.NUL_BYTE, 3),
    _row("a NUL byte at the end of a row", b"ab,c\n1,xy\0\n3,4\n", Reason.NUL_BYTE, 3),
    _row("a row longer than the limit", LONG, Reason.ROW_TOO_LONG, 3),
    _row("an event larger than the topic takes", LARGE, Reason.EVENT_TOO_LARGE, 3),
    _row(
        "a text where the schema requires a number",
        b"a,b\n1,x\n3,4\n",
        Reason.TYPE_MISMATCH,
        3,
        options=SCHEMA,
    ),
    _row(
        "a number too large for the schema's integer",
        b"a,b\n1,99999999999999999999\n3,4\n",
        Reason.TYPE_MISMATCH,
        3,
        options=SCHEMA,
    ),
    _row("a second header between the rows", b"a,b\n1,2\na,b,c\n3,4\n", Reason.TOO_MANY_FIELDS, 1, 3),
    _row("the header repeated between the rows", b"a,b\n1,2\na,b\n3,4\n", Reason.REPEATED_HEADER, 1, 3),
    _row("the header repeated with quotes", b'a,b\n1,2\n"a","b"\n3,4\n', Reason.REPEATED_HEADER, 1, 3),
    _row("the header repeated with its blanks", b"a,b\n1,2\na ,b \n3,4\n", Reason.REPEATED_HEADER, 1, 3),
    _row("files joined with their marks", MARKED + MARKED, Reason.REPEATED_HEADER, 1, 1),
    # ---- files that cannot be used; nothing goes out
    _file("no file", None, "there is no file x.csv"),
    _file("an empty file", b"", "is empty: it has no header"),
    _file("empty lines only", b"\r\n\r\n", "is empty: it has no header"),
    _file("a byte order mark only", b"\xef\xbb\xbf", "is empty: it has no header"),
    _file("a gzip file", gzip.compress(b"a,b\n1,2\n", mtime=0), "is not a CSV file but gzip"),
    _file("an Excel file", b"PK\x03\x04....", "is not a CSV file but Zip or Excel (xlsx)"),
    _file("a Parquet file", b"PAR1....", "is not a CSV file but Parquet"),
    _file("an ORC file", b"ORC\x08\x03\x10\n,", "is not a CSV file but ORC"),
    _file("a PostScript file", b"%!PS-Adobe-3.0\n", "is not a CSV file but PostScript"),
    _file("a Git LFS pointer", LFS, "is not a CSV file but a Git LFS pointer to it"),
    _file("a git-annex pointer", b"/annex/objects/SHA256E-s3--1.csv\n", "is not a CSV file but a git-annex"),
    _file(
        "a Git LFS pointer with a byte order mark", b"\xef\xbb\xbf" + LFS, "is not a CSV file but a Git LFS"
    ),
    _file("a git-annex link as a file", b"../.git/annex/objects/x/y/z", "is not a CSV file but a git-annex"),
    _file("a DVC pointer", b"outs:\n- md5: 4d7a2146\n  path: x.csv\n", "is not a CSV file but a DVC pointer"),
    _file("an HTML page", b"\n<!DOCTYPE html>\n<p>Not found, sorry\n", "is not a CSV file but HTML"),
    _file(
        "a part of an HTML page", b"<head>\n<title>Not found, sorry</title>\n", "is not a CSV file but HTML"
    ),
    _file(
        "an XML answer", b'\xef\xbb\xbf<?xml version="1.0"?>\n<Error/>\n', "is not a CSV file but HTML or XML"
    ),
    _file("an XML answer without a declaration", b"<Error><Code>Denied</Code></Error>", "but HTML or XML"),
    _file("JSON lines", b'{"a":1,"b":2}\n{"a":3,"b":4}\n', "is not a CSV file but JSON"),
    _file("JSON lines with CR", b'{"a":1,"b":2}\r{"a":3,"b":4}\r', "is not a CSV file but JSON"),
    _file("a JSON array", b'[\n  {"a":1,"b":2}\n]\n', "is not a CSV file but JSON"),
    _file("a JSON array on one line", b"[" + b'{"a":1,"b":2},' * 1000, "is not a CSV file but JSON"),
    _file("a JSON object over several lines", b'{ "type": "x", "rows": [\n1,\n2]}\n', "but JSON"),
    _file("JSON in UTF-16", '{"a":1,"b":2}\n'.encode("utf-16"), "but JSON", "--encoding", "utf-16"),
    _file("an image", b"\x89PNG\r\n\x1a\n", "is not a CSV file but a PNG image"),
    _file("UTF-16 that is not named", "a,b\n1,2\n".encode("utf-16"), "looks like UTF-16 text"),
    _file("UTF-16 without its mark", "番号,b\n1,松\n".encode("utf-16-be"), "--encoding utf-16-be"),
    _file("UTF-16 without its mark, named", "a,b\n".encode("utf-16-le"), "-le", "--encoding", "utf-16"),
    _file("UTF-32 that is not named", "a,b\n1,2\n".encode("utf-32"), "--encoding utf-32"),
    _file("UTF-32 without its mark", "番号,b\n1,松\n".encode("utf-32-le"), "--encoding utf-32-le"),
    _file("NUL bytes, as a crash leaves them", b"a,b\n" + bytes(1_000), "is full of NUL bytes"),
    _file("a NUL byte in the header", b"first,sec\0ond\n1,2\n", "the header has a NUL byte"),
    _file("a header that is not UTF-8", b"a,\xe9\n1,2\n", "the header has bytes that are not utf-8"),
    _file("a header with an open quote", b'a,"b\n1,2\n', "a quote opens a field and is not closed"),
    _file("a quoted header with another delimiter", b'"a";"b"\n"1";"2"\n', "set --delimiter ';'"),
    _file("a delimiter that is not ASCII", "sep=§\na§b\n".encode(), "sets a delimiter that is not one ASCII"),
    _file("a header of one huge field", HUGE, "the header (line 1) cannot be read"),
    _file("another encoding than the named", b"a,b\n1,2\n", "is not utf-32", "--encoding", "utf-32"),
    # ---- odd, and not broken
    _fine("a header that begins as a binary file does", b"ORC,PAR1\n1,2\n", 1),
    _fine("a header that looks like tags", b"<DATE>,<CLOSE>\n1,2\n", 1),
    _fine("a header that looks like an array", b"[id],[name]\n1,2\n", 1),
    _fine("lines of names and values before the header", NOTES + b"a,b\n1,2\n", 1, options=("--skip", "30")),
    _fine("values that begin as the header does", b"user,b\nuser1,2\nuser,3\n", "user1", "user"),
    _fine("a delimiter that the first line names", b"sep=\\t\na\tb\n1\t2\n", 1),
    _fine("two columns of one name: the second gets a number", b"a,a\n1,2\n", 1),
    _fine("two names that become one: the second gets a number", b"A b,a-b\n1,2\n", 1),
    _fine("columns without a name: they are called by their position", b"a,,\n1,2,3\n", 1),
    _fine("a column with the partition key's name: it gets a number", b"dt,b\n1,2\n", 1),
    _fine("a name longer than Athena takes: it is cut", b"%b,b\n1,2\n" % (b"x" * 300), 1),
    _fine("a header alone", b"a,b\n"),
    _fine("no line end behind the last row", b"a,b\n1,2", 1),
    _fine("CR, LF and CRLF mixed", b"a,b\r1,2\n3,4\r\n5,6\r", 1, 3, 5),
    _fine("empty lines between the rows", b"\n\na,b\n\n1,2\n\r\n3,4\n\n", 1, 3),
    _fine("a byte order mark", b"\xef\xbb\xbfa,b\n1,2\n", 1),
    _fine("a first line that names the delimiter to Excel", b"sep=;\r\na;b\r\n1;2\r\n", 1),
    _fine("lines before the header", b'Prices, "daily\n\na,b\n1,2\n', 1, options=("--skip", "2")),
    _fine("a word list whose header is a word", b"word\nother\nword\n", "other", "word"),
    _fine("a quote in the middle of a field", b'a,b\n1,5" disk\n', 1),
    _fine("line ends and delimiters in quotes", b'a,b\n"x,\ny",2\n', "x,\ny"),
    _fine("quotes that are plain characters, with `--quoting none`", PLAIN, 1, 2, 3, options=NO_QUOTING),
    _fine(
        "a missing value as pandas knows it in a column of numbers",
        b"a,b\n1,2\nNA,3\nnull,4\n",
        1,
        None,
        None,
    ),
    _fine("a missing value that `--null` names", b"a,b\nx,2\n?,3\n", "x", None, options=("--null", "?")),
    _fine("a text in a column of numbers, which makes it a column of texts", b"a,b\n1,2\n-,3\n", "1", "-"),
]
