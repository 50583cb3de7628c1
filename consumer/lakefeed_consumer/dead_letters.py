"""What cannot become an event's object is kept, whole and with its reason, as a dead letter."""

from __future__ import annotations

from base64 import b64encode

import orjson

from lakefeed_consumer.records import Record


def why_dead(value: bytes | None) -> str | None:
    """Why a record's value cannot be an event, or None when it is a JSON object in UTF-8."""
    if value is None:
        return "null value: the record has no event"
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return f"not JSON: {error}"
    if not isinstance(document, dict):
        return f"not a JSON object but {_JSON_NAMES[type(document)]}"
    return None


_JSON_NAMES = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}


def dead_letter(record: Record, reason: str) -> bytes:
    """The dead letter's body: a JSON object; value, key and header values are in base64."""
    return orjson.dumps(
        {
            "topic": record.partition.topic,
            "partition": record.partition.number,
            "offset": record.offset,
            "timestamp_ms": record.timestamp_ms,
            "key": _base64(record.key),
            "headers": [[name, _base64(value)] for name, value in record.headers],
            "value": _base64(record.value),
            "reason": reason,
        }
    )


def _base64(data: bytes | None) -> str | None:
    return None if data is None else b64encode(data).decode("ascii")
