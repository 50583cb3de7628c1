"""Whether a record's value is a valid event, and if not, why."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import lru_cache
from typing import Any

import orjson

from lakefeed_common.tables import MAX_NAME_BYTES, PARTITION_KEY, folded


def invalid_reason(value: bytes | None, added: str | None = None) -> str | None:
    """Why a record's value is not a valid event; None if it is.

    Args:
        value: of the record.
        added: a key that will be added to the event, and that it may not have in any case.

    An event is one JSON object in UTF-8, on one line and with each key once, in any case: Athena's SerDe
    reads each line as a document and lowers the case of keys, and a single object that it cannot read makes
    every query of the table fail. Each top-level key must be usable as a column of the table: it is not the
    partition key's name, and not longer than the catalogue allows.
    """
    if value is None:
        return "null value: the record has no event"
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return _not_json_reason(value, error)
    if not isinstance(document, dict):
        return f"not a JSON object but {_JSON_NAMES[type(document)]}"
    if (_LF in value or _CR in value) and _has_lines(value):
        return "not on one line: Athena would read each line as an event"
    # As many colons as keys is the usual case, and a cheap test.
    is_flat = value.count(b":") == len(document)
    if not is_flat and _has_duplicate_key(value, document):
        return "duplicate key: readers differ in which value they use, and Athena rejects the object"
    reason = _no_column_reason(tuple(document), added)
    if reason is None and not is_flat and _inner_keys_differ_in_case(document):
        return _DIFFER_IN_CASE
    return reason


# As integers: searching bytes for an integer takes a fifth of the time.
_LF, _CR = b"\n\r"
_JSON_NAMES = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}
_DIFFER_IN_CASE = "keys differ only in case: for Athena they are one key that occurs twice"
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')


def _not_json_reason(value: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        value.decode()
    except UnicodeDecodeError as invalid:
        return f"not UTF-8: {invalid.reason} at byte {invalid.start}"
    return f"not JSON: {error}"


def _has_lines(value: bytes) -> bool:
    """Whether Hadoop, which ends a line at LF, CR or both, reads a JSON document as several lines.

    JSON allows either of them only between its tokens. One line end after the document is allowed.
    """
    line = value.removesuffix(b"\n").removesuffix(b"\r")
    return _LF in line or _CR in line


def _has_duplicate_key(value: bytes, document: dict[str, Any]) -> bool:
    with suppress(orjson.JSONEncodeError):  # nested too deep to be written
        # Written by this library or a similar one, which writes each key once.
        if orjson.dumps(document) == value:
            return False
    return _keys_written(value) != _keys_read(document)


def _keys_written(value: bytes) -> int:
    """How many keys a JSON document has, duplicates included."""
    return _STRING.sub(b"", value).count(b":")


def _keys_read(document: dict[str, Any]) -> int:
    """How many keys are left when each object has each key once."""
    keys, waiting = 0, [document]
    while waiting:
        part: Any = waiting.pop()
        if isinstance(part, dict):
            keys += len(part)
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    return keys


# The events of a topic mostly have the same keys. The cache is small, as keys can be a megabyte each.
@lru_cache(maxsize=64)
def _equal_in_lower_case(keys: tuple[str, ...]) -> bool:
    return len(set(map(str.lower, keys))) != len(keys)


@lru_cache(maxsize=64)
def _no_column_reason(keys: tuple[str, ...], added: str | None) -> str | None:
    """Why the keys of an event cannot be columns of a table; None if they can."""
    if _equal_in_lower_case(keys):
        return _DIFFER_IN_CASE
    for key in keys:
        if folded(key) == PARTITION_KEY:
            return (
                f"the key {key!r} has the name of the table's partition key, so Athena could not show its "
                "value. Rename the key in the program that creates the events"
            )
        if added is not None and folded(key) == added:
            return (
                f"the key {key!r} has the name of the key that a batch adds to each event. Rename the key in "
                "the program that creates the events"
            )
        if (size := len(key.encode())) > MAX_NAME_BYTES:
            return (
                f"a key has {size:,} bytes ({key[:20]!r}…), more than the {MAX_NAME_BYTES} of a column name. "
                "Shorten the key in the program that creates the events"
            )
    return None


def _inner_keys_differ_in_case(document: dict[str, Any]) -> bool:
    waiting: list[Any] = [list(document.values())]
    for part in waiting:
        values = part
        if part.__class__ is dict:
            if _equal_in_lower_case(tuple(part)):
                return True
            values = part.values()
        waiting += [each for each in values if each.__class__ is dict or each.__class__ is list]
    return False
