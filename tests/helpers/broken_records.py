"""Records that are unusual or broken, each with its outcome; docs/reliability.md lists them."""

from __future__ import annotations

from typing import NamedTuple

STORED = "stored unchanged"


class Kind(NamedTuple):
    """One kind of record: what it is, its value, and `STORED` or a part of the reason it is invalid for."""

    name: str
    value: bytes | None
    outcome: str
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_ms: int = 1_767_225_600_000


DAYS_10000 = 253_402_300_800_000

KINDS = [
    Kind("null value (a tombstone)", None, "null value"),
    Kind("null value and null key", None, "null value", key=None, headers=(("source", b"a.csv"),)),
    Kind("empty value", b"", "not JSON"),
    Kind("white space only", b" \n\t", "not JSON"),
    Kind("plain text", b"hello", "not JSON"),
    Kind("not UTF-8: Latin-1", '{"a":"é"}'.encode("latin-1"), "not UTF-8"),
    Kind("not UTF-8: a surrogate as bytes", b'{"a":"\xed\xa0\x80"}', "not UTF-8"),
    Kind("not UTF-8: an overlong NUL", b'{"a":"\xc0\x80"}', "not UTF-8"),
    Kind("UTF-16", '{"a":1}'.encode("utf-16"), "not UTF-8"),
    Kind("UTF-16 without a byte order mark", '{"a":1}'.encode("utf-16-le"), "not JSON"),
    Kind("UTF-8 with a byte order mark", b'\xef\xbb\xbf{"a":1}', "byte order mark"),
    Kind("truncated JSON", b'{"a":1,"b":"tw', "not JSON"),
    Kind("two documents", b'{"a":1}{"b":2}', "not JSON"),
    Kind("two documents on two lines", b'{"a":1}\n{"b":2}\n', "not JSON"),
    Kind("something after the document", b'{"a":1} // seen', "not JSON"),
    Kind("a NUL after the document", b'{"a":1}\x00', "not JSON"),
    Kind("a NUL in a string", b'{"a":"\x00"}', "control character"),
    Kind("a tab in a string", b'{"a":"\t"}', "control character"),
    Kind("a trailing comma", b'{"a":1,}', "not JSON"),
    Kind("single quotes", b"{'a':1}", "not JSON"),
    Kind("a number with a leading zero", b'{"a":007}', "not JSON"),
    Kind("NaN", b'{"a":NaN}', "not JSON"),
    Kind("Infinity", b'{"a":-Infinity}', "not JSON"),
    Kind("a number past a double's range", b'{"a":1e999}', "number is infinity"),
    Kind("half a surrogate pair, escaped", b'{"a":"\\ud800"}', "surrogate"),
    Kind("an array", b'[{"a":1}]', "an array"),
    Kind("a string", b'"text"', "a string"),
    Kind("a number", b"42", "a number"),
    Kind("true", b"true", "a boolean"),
    Kind("null, the JSON literal", b"null", "but null"),
    Kind("pretty-printed over several lines", b'{\n  "a": 1\n}\n', "not on one line"),
    Kind("lines that end in CR", b'{"a":1,\r"b":2}', "not on one line"),
    Kind("a line feed before the document", b'\n{"a":1}', "not on one line"),
    Kind("an empty line after the document", b'{"a":1}\n\n', "not on one line"),
    Kind("a duplicate key", b'{"a":1,"b":2,"a":3}', "duplicate key"),
    Kind("a duplicate key, once escaped", b'{"a":1,"\\u0061":3}', "duplicate key"),
    Kind("a duplicate key in an inner object", b'{"a":[{"b":1,"b":"x:y"}]}', "duplicate key"),
    Kind("keys that differ only in case", b'{"Id":1,"id":2}', "keys differ only in case"),
    Kind(
        "keys of an inner object that differ only in case",
        b'{"a":[{"b":1,"B":"x:y"}]}',
        "keys differ only in case",
    ),
    Kind(
        "keys that differ only in case, one escaped",
        b'{"\\u00c9":1,"\xc3\xa9":2}',
        "keys differ only in case",
    ),
    Kind("a key of an object in another case in an inner one", b'{"Id":1,"a":{"id":2}}', STORED),
    Kind(
        "a key with the partition key's name",
        b'{"dt":"1743-11-01","temp":6.068}',
        "partition key",
    ),
    Kind(
        "a key with the partition key's name in capitals",
        b'{"a":{"b":1},"DT":1}',
        "partition key",
    ),
    Kind("the partition key's name in an inner object", b'{"a":{"dt":1}}', STORED),
    Kind("a key longer than a column's name", b'{"%b":1}' % (b"x" * 256), "a key has 256 bytes"),
    Kind("a key as long as a column's name", b'{"%b":1}' % (b"x" * 255), STORED),
    Kind("a long key in an inner object", b'{"a":{"%b":1}}' % (b"x" * 256), STORED),
    Kind("nested 1,025 deep", b'{"a":' * 1025 + b"1" + b"}" * 1025, "depth limit"),
    Kind("nested 1,024 deep", b'{"a":' * 1024 + b"1" + b"}" * 1024, STORED),
    Kind("one line end after the document", b'{"a":1}\r\n', STORED),
    Kind("spaces around and between", b' \t{ "a" : 1 , "b" : [ ] } ', STORED),
    Kind("an empty object", b"{}", STORED),
    Kind("an empty key", b'{"":1}', STORED),
    Kind("an escaped NUL", b'{"a":"\\u0000"}', STORED),
    Kind("a whole number of 300 digits", b'{"a":' + b"9" * 300 + b"}", STORED),
    Kind("a line separator (U+2028) in a string", '{"a":"\u2028"}'.encode(), STORED),
    Kind("a value of nearly 1 MB", b'{"a":"' + b"x" * 1_000_000 + b'"}', STORED),
    Kind("a key of 500 kB", b'{"a":1}', STORED, key=b"\xff" * 500_000),
    Kind("an invalid value of nearly 1 MB", b"\x00\xff" * 250_000, "not UTF-8", key=b"\xfe" * 400_000),
    Kind(
        "headers: null, empty, not UTF-8, the same name twice, no name",
        b"no",
        "not JSON",
        key=b"",
        headers=(("b", None), ("a", b""), ("a", b"\xff\x00"), ("", b"x"), ("é\n\x1b[31m", b"y")),
    ),
    Kind("no timestamp (-1): stored under 1970-01-01", b'{"a":1}', STORED, timestamp_ms=-1),
    Kind("a timestamp before 1970: stored under 1970-01-01", b"[]", "an array", timestamp_ms=-86_400_000),
    Kind(
        "a timestamp past the year 9999, as microseconds are: stored under 9999-12-31",
        b'{"a":1}',
        STORED,
        timestamp_ms=DAYS_10000,
    ),
]
