"""What cannot become an event's object is kept, whole and with its reason, as a dead letter."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import orjson

from lakefeed_common.errors import InputError
from lakefeed_common.tables import MAX_NAME_BYTES, PARTITION_KEY, folded
from lakefeed_consumer.record import Partition, Record

T = TypeVar("T")


def why_dead(value: bytes | None) -> str | None:
    """Why a record's value cannot be an event, or None when it is one.

    An event is one JSON object in UTF-8, on one line and with each key once, in whatever case: Athena's SerDe
    takes a line for a document and lowers the case of keys, and one object that it cannot read makes every
    query of the table fail. Each key of the event, not of what is in it, can be a column of the table: it is
    not the partition key's name, nor longer than the catalogue takes.
    """
    if value is None:
        return "null value: the record has no event"
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return _why_not_json(value, error)
    if not isinstance(document, dict):
        return f"not a JSON object but {_JSON_NAMES[type(document)]}"
    if (_LF in value or _CR in value) and _has_lines(value):
        return "not on one line: Athena would read each line as an event"
    # As many colons as keys is the usual case, and costs next to nothing.
    is_flat = value.count(b":") == len(document)
    if not is_flat and _has_a_key_twice(value, document):
        return "a key is there twice: readers differ in which value they take, and Athena takes none"
    reason = _why_no_columns(tuple(document))
    if reason is None and not is_flat and _has_inner_keys_that_differ_in_case(document):
        return _DIFFER_IN_CASE
    return reason


# As numbers, because bytes look for a number in a fifth of the time.
_LF, _CR = b"\n\r"
_JSON_NAMES = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}
_DIFFER_IN_CASE = "keys differ only in case: Athena takes them for one key, which is there twice"
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')


def _why_not_json(value: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        value.decode()
    except UnicodeDecodeError as wrong:
        return f"not UTF-8: {wrong.reason} at byte {wrong.start}"
    return f"not JSON: {error}"


def _has_lines(value: bytes) -> bool:
    """Whether a JSON document is on several lines for Hadoop, which ends one at LF, CR or both.

    JSON allows either of them only between its tokens. One line end behind the document is none too many.
    """
    line = value.removesuffix(b"\n").removesuffix(b"\r")
    return _LF in line or _CR in line


def _has_a_key_twice(value: bytes, document: dict[str, Any]) -> bool:
    with suppress(orjson.JSONEncodeError):  # of what is nested too deep to be written
        # What this library or one like it wrote: it writes each key once.
        if orjson.dumps(document) == value:
            return False
    return _keys_written(value) != _keys_read(document)


def _keys_written(value: bytes) -> int:
    """How many keys a JSON document has, those that are there again included."""
    return _STRING.sub(b"", value).count(b":")


def _keys_read(document: dict[str, Any]) -> int:
    """How many keys are left of them when each object has them once."""
    keys, waiting = 0, [document]
    while waiting:
        part: Any = waiting.pop()
        if isinstance(part, dict):
            keys += len(part)
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    return keys


# The events of a topic mostly have the same keys. Few are kept, as they can be a megabyte each.
@lru_cache(maxsize=64)
def _same_in_lower_case(keys: tuple[str, ...]) -> bool:
    return len(set(map(str.lower, keys))) != len(keys)


@lru_cache(maxsize=64)
def _why_no_columns(keys: tuple[str, ...]) -> str | None:
    """Why the keys of an event cannot be the columns of a table, or None when they can."""
    if _same_in_lower_case(keys):
        return _DIFFER_IN_CASE
    for key in keys:
        if folded(key) == PARTITION_KEY:
            return (
                f"the key {key!r} has the name of the table's partition key, and Athena could not show its "
                "value. Rename the key where the events are made"
            )
        if (size := len(key.encode())) > MAX_NAME_BYTES:
            return (
                f"a key has {size:,} bytes ({key[:20]!r}…), and the name of a table's column at most "
                f"{MAX_NAME_BYTES}. Shorten the key where the events are made"
            )
    return None


def _has_inner_keys_that_differ_in_case(document: dict[str, Any]) -> bool:
    waiting: list[Any] = [list(document.values())]
    for part in waiting:
        values = part
        if part.__class__ is dict:
            if _same_in_lower_case(tuple(part)):
                return True
            values = part.values()
        waiting += [each for each in values if each.__class__ is dict or each.__class__ is list]
    return False


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was stored aside, and why."""

    record: Record
    reason: str

    def body(self) -> bytes:
        """A JSON object; value, key and header values are in base64."""
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
        """The dead letter that has this body.

        Raises:
            InputError: none has.
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


def _base64(data: bytes | None) -> str | None:
    return None if data is None else b64encode(data).decode("ascii")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text, validate=True)


def _typed(kind: type[T], value: Any) -> T:
    if type(value) is not kind:
        raise TypeError(f"{value!r} where {kind.__name__} should be")
    return value
