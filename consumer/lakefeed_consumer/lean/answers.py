"""Reads the answer to a put: is it beyond doubt that the object was created?"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LIMIT = 16 << 10
_END = b"\r\n\r\n"
_GOOD = b"HTTP/1.1 200 "
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: .*)?", re.DOTALL)
_FRAMING = (b"content-length", b"transfer-encoding", b"connection")
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


class Judge:
    """Judges the answers of one server, which look alike: the last good one is the pattern of the next."""

    def __init__(self) -> None:
        self._matches_last = re.compile(rb"(?!)").fullmatch

    def __call__(self, data: bytes) -> Answer | None:
        """Judge what a connection has brought since a put was sent; None when more must come.

        Only the whole of an answer 200 without a body, with an ETag, and nothing behind it is beyond doubt.
        """
        if self._matches_last(data):
            return _STORED
        answer = read(data)
        if answer is _STORED and data.startswith(_GOOD) and data.find(_END) == len(data) - len(_END):
            self._matches_last = _pattern(data).fullmatch
        return answer


def _pattern(data: bytes) -> re.Pattern[bytes]:
    """Matches answers with the fields of a good one, and its values where they say what ends where."""
    parts = [re.escape(_GOOD) + rb"[^\r]*"]
    for line in data.removesuffix(_END).split(b"\r\n")[1:]:
        name, colon, _ = line.partition(b":")
        framing = not colon or name.lower() in _FRAMING
        parts.append(re.escape(line) if framing else re.escape(name) + rb":[^\r]*")
    return re.compile(b"\r\n".join(parts) + _END)


def read(data: bytes) -> Answer | None:
    """What `Judge` finds, from the data alone."""
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
    if not keeps_open or any(each.lower() != "keep-alive" for each in said):
        return Answer(stored=True, status=200)
    return _STORED
