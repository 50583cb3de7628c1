"""Lines of batch objects: an event's own bytes, with what Kafka knows of it as one more key.

    {"date":"2017-01-03","close":62.58,"_kafka":{"p":0,"o":42,"t":1790000000000,"k":"TVNGVA=="}}

`p` is the partition, `o` the offset and `t` the timestamp in milliseconds. Only where there is something to
say: `k`, the key in base64; `h`, the headers as pairs of name and base64 (null for a header without a value);
`s`, white space behind the event.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import b2a_base64
from functools import lru_cache

import orjson

from lakefeed_common.errors import InputError
from lakefeed_common.lake.records import Partition, Record

KAFKA_FIELD = "_kafka"
"""The key that is added to each event; an event that has it already cannot be a line."""

_SPACE, _OPEN_BRACE, _BRACE = b" {}"
_MARK = b'"_kafka":{"p":'


def to_line(record: Record, value: bytes) -> bytes:
    """One line, with its line end.

    Args:
        record: where the event is from.
        value: the event: one JSON object on one line; white space may follow it.
    """
    partition, offset, timestamp_ms, key, _, headers = record
    if value[-1] == _BRACE and value[-2] > _SPACE and value[-2] != _OPEN_BRACE:
        begin, white = value[:-1] + b",", b""
    else:
        begin, white = _split(value)
    more = b""
    if key is not None:
        more = b',"k":"%b"' % b2a_base64(key, newline=False)
    if headers:
        more += b',"h":[%b]' % b",".join([_header(name, each) for name, each in headers])
    if white:
        more += b',"s":%b' % orjson.dumps(white.decode())
    return b'%b"_kafka":{"p":%d,"o":%d,"t":%d%b}}\n' % (begin, partition[1], offset, timestamp_ms, more)


def _split(value: bytes) -> tuple[bytes, bytes]:
    """What precedes the key that is added, and the white space behind the event."""
    end = value.rindex(b"}")
    begin = value[:end]
    # Before the last brace of an empty object there are only white space and the first one.
    if not begin.rstrip().endswith(b"{"):
        begin += b","
    return begin, value[end + 1 :]


def _header(name: str, value: bytes | None) -> bytes:
    if value is None:
        return b"[%b,null]" % _json(name)
    return b'[%b,"%b"]' % (_json(name), b2a_base64(value, newline=False))


# The records of a topic mostly have the same headers.
@lru_cache(maxsize=256)
def _json(name: str) -> bytes:
    return orjson.dumps(name)


def from_line(topic: str, line: bytes) -> Record:
    """The record of a line, as it was in Kafka.

    Args:
        topic: which topic the batch is from.
        line: with or without its line end.

    Raises:
        InputError: it is not a line of a batch.
    """
    line = line.rstrip(b"\n")
    start = line.rfind(_MARK)
    if start < 0:
        raise InputError(f"damaged: a line without {KAFKA_FIELD}")
    try:
        fields = orjson.loads(line[start + len(KAFKA_FIELD) + 3 : -1])
        value = line[: start - (line[start - 1 : start] == b",")] + b"}" + fields.get("s", "").encode()
        return Record(
            Partition(topic, int(fields["p"])),
            int(fields["o"]),
            int(fields["t"]),
            decode(fields.get("k")),
            value,
            tuple((str(name), decode(each)) for name, each in fields.get("h", ())),
        )
    except KeyError as error:
        raise InputError(f"damaged: {error.args[0]} is missing in {KAFKA_FIELD}") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"damaged: {error}") from error


def encode(data: bytes | None) -> str | None:
    """Bytes as base64; None stays None."""
    return None if data is None else b2a_base64(data, newline=False).decode("ascii")


def decode(text: str | None) -> bytes | None:
    """Bytes from base64; None stays None.

    Raises:
        ValueError: it is not base64.
    """
    return None if text is None else b64decode(text, validate=True)
