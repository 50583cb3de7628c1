"""Lines of batch objects: an event's own bytes, with what Kafka knows of it as one more key.

    {"date":"2017-01-03","close":62.58,"_kafka":{"p":0,"o":42,"t":1790000000000,"k":"TVNGVA=="}}

`p` is the partition, `o` the offset and `t` the timestamp in milliseconds. Only where there is something to
say: `k`, the key in base64; `h`, the headers as pairs of name and base64 (null for a header without a value);
`s`, white space behind the event.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import b2a_base64
from typing import Any

import orjson

from lakefeed_common.errors import InputError
from lakefeed_common.lake.records import Partition, Record

KAFKA_FIELD = "_kafka"
"""The key that is added to each event; an event that has it already cannot be a line."""

_MARK = b'"_kafka":{"p":'


def to_line(record: Record, value: bytes) -> bytes:
    """One line, with its line end.

    Args:
        record: where the event is from.
        value: the event: one JSON object on one line; white space may follow it.
    """
    partition, offset, timestamp_ms, key, _, headers = record
    end = value.rindex(b"}")
    # Before the last brace of an empty object there are only white space and the first one.
    comma = b"" if value[:end].rstrip().endswith(b"{") else b","
    if key is None and not headers and end == len(value) - 1:
        return b'%b%b"_kafka":{"p":%d,"o":%d,"t":%d}}\n' % (
            value[:end],
            comma,
            partition.number,
            offset,
            timestamp_ms,
        )
    fields: dict[str, Any] = {"p": partition.number, "o": offset, "t": timestamp_ms}
    if key is not None:
        fields["k"] = encode(key)
    if headers:
        fields["h"] = [[name, encode(each)] for name, each in headers]
    if white := value[end + 1 :]:
        fields["s"] = white.decode()
    return b'%b%b"_kafka":%b}\n' % (value[:end], comma, orjson.dumps(fields))


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
