"""The format of a dead letter's object: the whole record and the reason, as JSON."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from lakefeed_common.errors import InputError
from lakefeed_common.lake import batches
from lakefeed_common.lake.lines import from_line
from lakefeed_common.lake.metadata import BatchMetadata
from lakefeed_common.lake.records import Partition, Record

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was not stored as an event, and why."""

    record: Record
    reason: str

    def body(self) -> bytes:
        """A JSON object; key, value and header values are in base64."""
        record = self.record
        return orjson.dumps(
            {
                "topic": record.partition.topic,
                "partition": record.partition.number,
                "offset": record.offset,
                "timestamp_ms": record.timestamp_ms,
                "key": _base64(record.key),
                "headers": [[name, _base64(value)] for name, value in record.headers],
                "value": _base64(record.value),
                "reason": self.reason,
            }
        )

    @classmethod
    def parse(cls, body: bytes) -> DeadLetter:
        """Parse the body of a dead letter.

        Raises:
            InputError: it is not one.
        """
        try:
            fields = orjson.loads(body)
            record = Record(
                Partition(_typed(str, fields["topic"]), _typed(int, fields["partition"])),
                _typed(int, fields["offset"]),
                _typed(int, fields["timestamp_ms"]),
                _bytes(fields["key"]),
                _bytes(fields["value"]),
                tuple((_typed(str, name), _bytes(value)) for name, value in fields["headers"]),
            )
            return cls(record, _typed(str, fields["reason"]))
        except KeyError as error:
            raise InputError(f"damaged: {error.args[0]} is missing") from error
        except (TypeError, ValueError) as error:
            raise InputError(f"damaged: {error}") from error


def conflict_reason(batch: BatchMetadata) -> str:
    """Why a batch is kept among the dead letters."""
    return (
        f"conflict: another batch starts at this position. This one has {batch.records:,} events of offsets "
        f"below {batch.end:,}"
    )


def parse_batch(topic: str, body: bytes, metadata: BatchMetadata) -> list[Record]:
    """The records of a batch that conflicts.

    Raises:
        InputError: its body is not what was stored.
    """
    return [from_line(topic, line) for line in batches.decompressed(body, metadata).split(b"\n")[:-1]]


def _base64(data: bytes | None) -> str | None:
    return None if data is None else b64encode(data).decode("ascii")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text, validate=True)


def _typed(expected: type[T], value: Any) -> T:
    if type(value) is not expected:
        raise TypeError(f"{value!r} where {expected.__name__} should be")
    return value
