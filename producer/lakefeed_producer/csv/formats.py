"""Recognizes files that are not CSV by their first bytes, and says what to do with each."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lakefeed_common.errors import InputError

BOM = b"\xef\xbb\xbf"
_MAGIC = [
    (b"\x1f\x8b", "gzip", "Decompress it first: gzip -d"),
    (b"BZh", "bzip2", "Decompress it first: bzip2 -d"),
    (b"\xfd7zXZ\x00", "xz", "Decompress it first: xz -d"),
    (b"\x28\xb5\x2f\xfd", "Zstandard", "Decompress it first: zstd -d"),
    (b"PK\x03\x04", "Zip or Excel (xlsx)", "Unpack it, or save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "Excel (xls)", "Save the sheet as CSV"),
    (b"PAR1", "Parquet", "Convert it to CSV"),
    (b"ORC", "ORC", "Convert it to CSV"),
    (b"Obj\x01", "Avro", "Convert it to CSV"),
    (b"SQLite format 3\x00", "SQLite", "Export the table as CSV"),
    (b"%PDF-", "PDF", "Export the table as CSV"),
    (b"%!PS", "PostScript", "Export the table as CSV"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip", "Unpack it first"),
    (b"Rar!\x1a\x07", "RAR", "Unpack it first"),
    (b"\x04\x22\x4d\x18", "LZ4", "Decompress it first: lz4 -d"),
    (b"ARROW1", "Arrow or Feather", "Convert it to CSV"),
    (b"\x89HDF\r\n", "HDF5", "Convert it to CSV"),
    (b"\x89PNG", "a PNG image", "Publish the table that it shows as text"),
    (b"\xff\xd8\xff", "a JPEG image", "Publish the table that it shows as text"),
    (b"GIF8", "a GIF image", "Publish the table that it shows as text"),
    (b"\x7fELF", "a program", "Name the CSV file"),
    (b"{\\rtf", "rich text", "Save the table as CSV"),
]
# A header can begin with the letters of these. It has delimiters, and no control characters.
_LETTERS_ALONE = {b"BZh", b"PAR1", b"ORC", b"ARROW1", b"GIF8"}
_TEXT_TABLE = re.compile(rb"[^\x00-\x08\x0e-\x1a\x1c-\x1f]*[,;\t|\r\n][^\x00-\x08\x0e-\x1a\x1c-\x1f]*")
# What other tools keep in place of a file, at the beginning of the text.
_POINTERS = [
    (rb"version https://(?:git-lfs|hawser)\.github\.com/spec", "a Git LFS pointer to it", "git lfs pull"),
    (rb"(?:\S*\.git)?/annex/objects/", "a git-annex pointer to it", "git annex get"),
    (rb"# xet version", "a Git Xet pointer to it", "git xet checkout"),
    (rb"(?:\w+: [^\n]*\n)*outs:\s+- \w+: ", "a DVC pointer to it", "dvc pull"),
]
# A tag that has attributes, is closed, or is followed by another one. Exports of stock prices have headers
# such as `<DATE>,<TIME>`, also with tabs.
_MARKUP = re.compile(
    rb"<\?xml|<!--|<!doctype|<html[\s>]|<([a-z][\w:.-]*)"
    rb"(?:\s[^<>]*=[^<>]*>|\s*/>|\s*>(?:[ \t]*\r?\n\s*)?<[a-z!/]|\s*>.*</\1\s*>)",
    re.IGNORECASE | re.DOTALL,
)
_JSON = re.compile(rb'\{\s*(?:"|\}|\Z)|\[\s*(?:[\[{"\]\r\n]|\Z)')
_BYTE_ORDER_MARKS = [
    (codecs.BOM_UTF32_LE, "utf-32", "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32", "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16", "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16", "utf-16-be"),
]


def check_is_csv(path: Path, start: bytes, *, encoding: str, has_preamble: bool) -> None:
    """Refuse a file that is clearly something else.

    Args:
        path: the file, for the message.
        start: its first bytes.
        encoding: Python's name of the text encoding that the user expects.
        has_preamble: whether lines before the header are skipped; they may contain anything.

    Raises:
        InputError: the file is not CSV text in this encoding.
    """
    for magic, kind, advice in _MAGIC:
        if start.startswith(magic) and not (magic in _LETTERS_ALONE and _TEXT_TABLE.fullmatch(start)):
            raise InputError(f"{path} is not a CSV file but {kind}. {advice}")
    found = _unicode_encodings(start)
    if found and encoding not in found:
        raise InputError(f"{path} looks like {found[0].upper()} text. Publish it with --encoding {found[0]}")
    text = _utf8(start, encoding).removeprefix(BOM).lstrip()
    for pattern, kind, command in _POINTERS:
        if re.match(pattern, text):
            raise InputError(f"{path} is not a CSV file but {kind}. Fetch the file itself: {command}")
    if not has_preamble and _MARKUP.match(text):
        raise InputError(
            f"{path} is not a CSV file but HTML or XML. Is it the answer to a failed download? If so, fetch "
            "the file again; if not, convert it to CSV"
        )
    if not has_preamble and _is_json(text):
        raise InputError(f"{path} is not a CSV file but JSON. Convert it to CSV")
    if not found and start.count(0) > len(start) // 10:
        raise InputError(f"{path} is not a text file: it is full of NUL bytes")


def _unicode_encodings(start: bytes) -> tuple[str, ...]:
    """Which encodings of UTF-16 or UTF-32 a file has, the one to recommend first; empty for other files."""
    for mark, *names in _BYTE_ORDER_MARKS:
        if start.startswith(mark):
            return tuple(names)
    return tuple(_without_mark(start))[:1]


def _without_mark(start: bytes) -> Iterator[str]:
    count = len(start) // 4
    nuls = [start[at : 4 * count : 4].count(0) for at in range(4)]
    # All characters but emoji and the like have two NUL bytes in UTF-32.
    if count and min(nuls[2:]) > 0.9 * count > 9 * nuls[0]:
        yield "utf-32-le"
    if count and min(nuls[:2]) > 0.9 * count > 9 * nuls[3]:
        yield "utf-32-be"
    # Of UTF-16, ASCII characters have one: nearly all of a text, or its delimiters and all of its line ends.
    even, odd = start[::2].count(0), start[1::2].count(0)
    ends = start.count(b"\n") + start.count(b"\r")
    for name, own, other in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        text = start[: len(start) // 2 * 2].decode(name, "replace") if own > 4 * other else ""
        if own > 4 * other + len(start) // 4 or 2 * (text.count("\n") + text.count("\r")) > ends:
            yield name


def _utf8(start: bytes, encoding: str) -> bytes:
    """The text in UTF-8, as far as it can be decoded."""
    with suppress(UnicodeError):
        return codecs.getincrementaldecoder(encoding)("replace").decode(start).encode()
    return start


def _is_json(text: bytes) -> bool:
    """Whether a text begins as JSON does, or its first line is a JSON array."""
    if _JSON.match(text):
        return True
    line = re.split(rb"[\r\n]", text, maxsplit=1)[0].strip()
    if not line.startswith(b"["):
        return False
    with suppress(ValueError):
        json.loads(line.removesuffix(b","))
        return True
    return False
