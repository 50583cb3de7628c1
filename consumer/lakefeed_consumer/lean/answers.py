"""Reads the answer to a put: is it beyond doubt that the object was created?"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LIMIT = 16 << 10
_END = b"\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: .*)?", re.DOTALL)
_NO_CHUNKS = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a put.

    Attributes:
        stored: the object was created by it. If not, it may have been created all the same.
        reusable: the connection can take another put.
        doubt: why it is not sure; empty when it is.
        status: the answer's status, 0 without one.
    """

    stored: bool
    reusable: bool = False
    doubt: str = ""
    status: int = 0


_STORED = Answer(stored=True, reusable=True, status=200)


def doubtful(why: str, status: int = 0) -> Answer:
    """Not sure that it was stored, and done with the connection."""
    return Answer(stored=False, doubt=why, status=status)


def judge(data: bytes) -> Answer | None:
    """Judge what a connection has brought since a put was sent; None when more must come.

    Only the whole of an answer 200 without a body, with an ETag, and nothing behind it is beyond doubt.
    """
    return _STORED if _is_usual(data) else _read(data)


def _is_usual(data: bytes) -> bool:
    """Whether it is a good answer as servers mostly write it: `_read` finds the same, but slowly."""
    if not data.startswith(b"HTTP/1.1 200 "):
        return False
    head = data.lower()
    return (
        head.find(_END) == len(head) - 4
        and b"\r\ncontent-length: 0\r\n" in head
        and head.count(b"\r\ncontent-length:") == 1
        and b"\r\netag:" in head
        and b"\r\ntransfer-encoding:" not in head
        and head.count(b"\r\nconnection:") == head.count(b"\r\nconnection: keep-alive\r\n")
        and b"\r\n " not in head
        and b"\r\n\t" not in head
    )


def _read(data: bytes) -> Answer | None:
    if len(data) > _LIMIT:
        return doubtful("an answer without an end")
    code, keeps_open, rest = 100, True, data
    # Interim answers, such as 100, come before the one that counts; behind 101 it is no HTTP any more.
    while 100 <= code < 200 and code != 101:
        head, end, rest = rest.partition(_END)
        if not end:
            return None
        first, *lines = head.split(b"\r\n")
        status = _STATUS.fullmatch(first)
        if status is None:
            return doubtful("no answer of HTTP/1.1")
        keeps_open, code = status[1] == b"1", int(status[2])
    if code != 200:
        return doubtful(f"answered {code}", code)
    fields = _fields(lines)
    if fields is None or "etag" not in fields:
        return doubtful("200 with a head that S3 does not send", code)
    if not _is_empty(fields):
        return doubtful("200 with a body", code)
    return _behind_the_head(rest, fields, keeps_open)


def _fields(lines: list[bytes]) -> dict[str, list[str]] | None:
    """A head's fields by their names in lower case; None when a line goes on in the next one."""
    fields: dict[str, list[str]] = {}
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            return None
        name, _, value = line.decode("latin-1").partition(":")
        fields.setdefault(name.lower(), []).append(value.strip(" \t"))
    return fields


def _is_empty(fields: dict[str, list[str]]) -> bool:
    """Whether the body can be empty, and where it ends is certain."""
    lengths, encodings = fields.get("content-length"), fields.get("transfer-encoding")
    if encodings is None:
        return lengths == ["0"]
    return lengths is None and [each.lower() for each in encodings] == ["chunked"]


def _behind_the_head(rest: bytes, fields: dict[str, list[str]], keeps_open: bool) -> Answer | None:
    wanted = _NO_CHUNKS if "transfer-encoding" in fields else b""
    if rest != wanted:
        return None if wanted.startswith(rest) else doubtful("200 with a body, or more than one answer", 200)
    said = fields.get("connection", ["keep-alive"])
    reusable = keeps_open and all(each.lower() == "keep-alive" for each in said)
    return Answer(stored=True, reusable=reusable, status=200)
