"""Whatever a server sends, in any pieces: only a complete good response confirms a put."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakefeed_consumer.s3.fast.responses import PutResult, ResponseParser, parse

GOOD = b'HTTP/1.1 200 OK\r\nServer: S3\r\nETag: "0a"\r\nContent-Length: 0\r\nDate: today\r\n\r\n'
CHUNKED = b'HTTP/1.1 200 OK\r\nETag: "0a"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"

# Parts of a response, combined in right and wrong ways.
pieces = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 200",
        b"HTTP/1.1 100 Continue",
        b"HTTP/1.1 503 Slow Down",
        b"HTTP/1.1 2000 OK",
        b"\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b" ",
        b'ETag: "0a"',
        b"etag:",
        b"Content-Length: 0",
        b"content-length:0",
        b"Content-Length: 5",
        b"Content-Length: +0",
        b"Content-Length: 0, 0",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Connection: close",
        b"Connection: keep-alive",
        b"Date: today",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n",
        GOOD,
        CHUNKED,
        INTERIM,
    ]
)
joined = st.lists(pieces, max_size=12).map(b"".join)
lines = st.lists(pieces, max_size=8).map(lambda found: b"\r\n".join(found) + b"\r\n\r\n")
changed = st.builds(
    lambda data, at, size, new: data[:at] + new + data[at + size :],
    st.sampled_from([GOOD, CHUNKED, INTERIM + GOOD]),
    st.integers(0, 90),
    st.integers(0, 20),
    st.binary(max_size=6) | pieces,
)
responses = st.one_of(joined, lines, changed, st.binary(max_size=200))

# Written independently of the code: what may be a good response, by its lines.
IN_LINE = rb"(?:(?!\r\n).)"
INTERIMS = rb"(?:HTTP/1\.[01] 1(?!01)\d\d(?: %b*)?\r\n(?:%b+\r\n)*\r\n)*" % (IN_LINE, IN_LINE)
STRICT = re.compile(
    INTERIMS
    + rb"HTTP/1\.[01] 200(?: %b*)?(?P<fields>(?:\r\n(?![ \t])%b+)*)\r\n\r\n(?P<body>.*)" % (IN_LINE, IN_LINE),
    re.DOTALL,
)


def is_good(data: bytes) -> bool:
    """Whether the data is one good response, by another way of parsing."""
    found = STRICT.fullmatch(data)
    if found is None:
        return False
    fields = [line.partition(b":") for line in found["fields"].lower().split(b"\r\n")]
    values = {name: [v.strip(b" \t") for n, _, v in fields if n == name] for name, _, _ in fields}
    if b"etag" not in values:
        return False
    if b"transfer-encoding" in values:
        chunked = values[b"transfer-encoding"] == [b"chunked"] and b"content-length" not in values
        return chunked and found["body"] == b"0\r\n\r\n"
    return values.get(b"content-length") == [b"0"] and found["body"] == b""


def parse_in_pieces(parser: ResponseParser, data: bytes, cuts: list[int]) -> PutResult | None:
    """As a connection does: parse what was received so far each time that more is received."""
    received = b""
    ends = [*sorted(cut for cut in cuts if cut < len(data)), len(data)]
    for start, end in zip([0, *ends], ends, strict=False):
        received += data[start:end]
        result = parser(received)
        if result is not None:
            return result
    return None


@settings(max_examples=400)
@given(st.lists(responses, max_size=3), responses, st.lists(st.integers(0, 200), max_size=5))
def test_only_a_complete_good_response_confirms_a_put(
    before: list[bytes], data: bytes, cuts: list[int]
) -> None:
    parser = ResponseParser()
    for each in (GOOD, *before):
        parser(each)
    found = parse_in_pieces(parser, data, cuts)
    if found is not None and found.stored:
        # Bytes after a complete response belong to no put.
        assert any(is_good(data[:end]) for end in (*cuts, len(data)))


@settings(max_examples=400)
@given(st.lists(responses, max_size=3), responses)
def test_a_learned_pattern_changes_no_result(before: list[bytes], data: bytes) -> None:
    parser = ResponseParser()
    for each in before:
        parser(each)
    assert parser(data) == parse(data)


@given(st.lists(st.integers(0, 200), max_size=8), st.sampled_from([GOOD, CHUNKED]), st.integers(0, 3))
def test_a_good_response_confirms_a_put_in_any_pieces(cuts: list[int], good: bytes, interims: int) -> None:
    parser, data = ResponseParser(), INTERIM * interims + good
    for _ in range(2):
        assert parse_in_pieces(parser, data, cuts) == PutResult(stored=True, reusable=True, status=200)


@given(st.integers(0, len(GOOD) - 1), st.sampled_from([GOOD, CHUNKED, INTERIM + GOOD]))
def test_an_incomplete_response_has_no_result(end: int, good: bytes) -> None:
    parser = ResponseParser()
    parser(good)
    assert parser(good[: min(end, len(good) - 1)]) is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (GOOD.replace(b"200 OK", b"412 Precondition Failed"), "answered 412"),
        (GOOD.replace(b"200 OK", b"204 No Content"), "answered 204"),
        (GOOD.replace(b"200 OK", b"101 Switching Protocols"), "answered 101"),
        (b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://other/\r\n\r\n", "answered 307"),
        (b"HTTP/1.1 503 Slow Down\r\nContent-Length: 1000\r\n\r\n<Error>", "answered 503"),
        (GOOD.replace(b"ETag", b"X-Tag"), "that S3 does not send"),
        (GOOD.replace(b"\r\nDate", b"\r\n Date"), "that S3 does not send"),
        (GOOD.replace(b"Length: 0", b"Length: 5") + b"hello", "200 with a body"),
        (GOOD.replace(b"Content-Length: 0\r\n", b""), "200 with a body"),
        (GOOD.replace(b"\r\nDate", b"\r\nTransfer-Encoding: chunked\r\nDate"), "200 with a body"),
        (CHUNKED.replace(b"0\r\n\r\n", b"5\r\nhello\r\n"), "200 with a body"),
        (GOOD + GOOD, "more than one response"),
        (GOOD + b"x", "more than one response"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not an HTTP/1.1 response"),
        (b"HTTP/2 200\r\n\r\n", "not an HTTP/1.1 response"),
        (INTERIM * 1000, "does not end"),
        (b"x" * 20_000, "does not end"),
    ],
)
def test_an_unconfirmed_put_has_its_reason_and_ends_the_connection(data: bytes, reason: str) -> None:
    found = ResponseParser()(data)
    assert found is not None
    assert not found.stored
    assert not found.reusable
    assert reason in found.reason


@pytest.mark.parametrize(
    "good",
    [
        GOOD.replace(b"Date: today", b"Connection: close"),
        GOOD.replace(b"Date: today", b"Connection: keep-alive\r\nConnection: close"),
        GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_a_connection_that_the_server_closes_is_not_used_again(good: bytes) -> None:
    assert ResponseParser()(good) == PutResult(stored=True, reusable=False, status=200)
