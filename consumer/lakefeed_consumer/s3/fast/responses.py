"""Parses the response to a put: does it confirm that the object was created?"""

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
class PutResult:
    """The result of a put.

    Attributes:
        stored: whether it is confirmed that the put created the object. If not, it may have, all the same.
        reusable: whether the connection can be used for another put.
        reason: why the put is not confirmed; empty if it is.
        status: the response's status, 0 without one.
    """

    stored: bool
    reusable: bool = False
    reason: str = ""
    status: int = 0


_STORED = PutResult(stored=True, reusable=True, status=200)


def unconfirmed(reason: str, status: int = 0) -> PutResult:
    """A put that may or may not have created the object; its connection is not used again."""
    return PutResult(stored=False, reason=reason, status=status)


class ResponseParser:
    """Parses the responses of one server, which are alike: the last good one is the pattern for the next."""

    def __init__(self) -> None:
        self._matches_last = re.compile(rb"(?!)").fullmatch

    def __call__(self, data: bytes) -> PutResult | None:
        """Parse what a connection has received since a put was sent; None if it is incomplete.

        Only a complete response 200 without a body, with an ETag and nothing after it, confirms a put.
        """
        if self._matches_last(data):
            return _STORED
        result = parse(data)
        if result is _STORED and data.startswith(_GOOD) and data.find(_END) == len(data) - len(_END):
            self._matches_last = _pattern(data).fullmatch
        return result


def _pattern(data: bytes) -> re.Pattern[bytes]:
    """Matches responses with the fields of a good one, and the same values where they frame the message."""
    parts = [re.escape(_GOOD) + rb"[^\r]*"]
    for line in data.removesuffix(_END).split(b"\r\n")[1:]:
        name, colon, _ = line.partition(b":")
        framing = not colon or name.lower() in _FRAMING
        parts.append(re.escape(line) if framing else re.escape(name) + rb":[^\r]*")
    return re.compile(b"\r\n".join(parts) + _END)


def parse(data: bytes) -> PutResult | None:
    """What `ResponseParser` returns, from the data alone."""
    if len(data) > _LIMIT:
        return unconfirmed("the response does not end")
    code, keeps_open, rest = 100, True, data
    # Interim responses such as 100 precede the final one; after 101 the protocol is no longer HTTP.
    while 100 <= code < 200 and code != 101:
        head, end, rest = rest.partition(_END)
        if not end:
            return None
        first, *lines = head.split(b"\r\n")
        status = _STATUS.fullmatch(first)
        if status is None:
            return unconfirmed("not an HTTP/1.1 response")
        keeps_open, code = status[1] == b"1", int(status[2])
    if code != 200:
        return unconfirmed(f"answered {code}", code)
    fields = _fields(lines)
    if fields is None or "etag" not in fields:
        return unconfirmed("200 with a header that S3 does not send", code)
    if not _is_empty(fields):
        return unconfirmed("200 with a body", code)
    return _after_header(rest, fields, keeps_open=keeps_open)


def _fields(lines: list[bytes]) -> dict[str, list[str]] | None:
    """Header fields by their names in lower case; None if a field is folded over several lines."""
    fields: dict[str, list[str]] = {}
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            return None
        name, _, value = line.decode("latin-1").partition(":")
        fields.setdefault(name.lower(), []).append(value.strip(" \t"))
    return fields


def _is_empty(fields: dict[str, list[str]]) -> bool:
    """Whether the body can be empty and its end is known."""
    lengths, encodings = fields.get("content-length"), fields.get("transfer-encoding")
    if encodings is None:
        return lengths == ["0"]
    return lengths is None and [each.lower() for each in encodings] == ["chunked"]


def _after_header(rest: bytes, fields: dict[str, list[str]], *, keeps_open: bool) -> PutResult | None:
    expected = _NO_CHUNKS if "transfer-encoding" in fields else b""
    if rest != expected:
        return (
            None
            if expected.startswith(rest)
            else unconfirmed("200 with a body, or more than one response", 200)
        )
    connection = fields.get("connection", ["keep-alive"])
    if not keeps_open or any(each.lower() != "keep-alive" for each in connection):
        return PutResult(stored=True, status=200)
    return _STORED
