"""Columns of a table and their types, which follow from the values by rule and never from a file.

An integer of 64 bits is a long, another number that a double holds a double, true and false are a boolean;
everything else is a string: text as it is, objects and arrays as their JSON. A double holds an integer only
if it is exactly that one: no number is altered. A column never changes its type by itself: a value that does
not fit is kept in the column `unfit`, and `lakefeed-analytics rebuild` widens the column.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum

from lakefeed_common.tables import PARTITION_KEY, folded, is_column_name

KAFKA_PARTITION, KAFKA_OFFSET, KAFKA_TIMESTAMP = "kafka_partition", "kafka_offset", "kafka_timestamp"
UNFIT = "unfit"
"""Values that do not fit: a map from the event's key to the value's text."""

OWN_COLUMNS = (KAFKA_PARTITION, KAFKA_OFFSET, KAFKA_TIMESTAMP, PARTITION_KEY, UNFIT)
MAX_COLUMNS = 1000
"""Most columns of a table; the values of further keys are kept in `unfit`."""

_INTEGER = re.compile(r"-?\d+")
_LONGEST_LONG = 19
_LONGS = range(-(2**63), 2**63)


class ColumnType(StrEnum):
    """The type of a column, by its name in Iceberg."""

    BOOLEAN = "boolean"
    LONG = "long"
    DOUBLE = "double"
    STRING = "string"

    def joined(self, other: ColumnType) -> ColumnType:
        """The narrowest type that holds the values of both."""
        if self is other:
            return self
        numbers = {ColumnType.LONG, ColumnType.DOUBLE}
        return ColumnType.DOUBLE if {self, other} == numbers else ColumnType.STRING


Columns = Mapping[str, ColumnType]
"""The event's columns by name, in order; without this project's own."""


def is_long(text: str) -> bool:
    """Whether a JSON number is an integer of 64 bits."""
    if not _INTEGER.fullmatch(text):
        return False
    return len(text) < _LONGEST_LONG or (len(text) <= _LONGEST_LONG + 1 and int(text) in _LONGS)


def type_of(text: str, *, string: bool) -> ColumnType | None:
    """The type that a value suggests for its column; None for null.

    Args:
        text: the value as it is in JSON.
        string: whether it is a string.
    """
    first = text[:1]
    if string or first in "[{":
        return ColumnType.STRING
    if first == "n":
        return None
    if first in "tf":
        return ColumnType.BOOLEAN
    if is_long(text):
        return ColumnType.LONG
    return ColumnType.STRING if _double(text) is None else ColumnType.DOUBLE


def _double(text: str) -> float | None:
    """A JSON number as a double; None if it is too large, or an integer that no double is.

    A fraction is rounded to the nearest double, as by every parser.
    """
    number = float(text)
    if not math.isfinite(number):
        return None
    return number if not _INTEGER.fullmatch(text) or int(number) == int(text) else None


def from_glue(kind: str) -> ColumnType:
    """The type for a column that a crawler has found, such as `bigint`."""
    match kind.partition("(")[0]:
        case "tinyint" | "smallint" | "int" | "bigint":
            return ColumnType.LONG
        case "float" | "double" | "decimal":
            return ColumnType.DOUBLE
        case "boolean":
            return ColumnType.BOOLEAN
        case _:
            return ColumnType.STRING


def can_be_column(name: str) -> bool:
    """Whether an event's key, folded, can be the name of a column."""
    return name not in OWN_COLUMNS and is_column_name(name)


def widened(columns: Columns, found: Iterable[tuple[str, ColumnType]]) -> dict[str, ColumnType]:
    """The columns with those that were found: new ones at the end, known ones as wide as needed.

    Args:
        columns: the known ones.
        found: keys of events, as they are written there, and the types of their values.
    """
    wider = dict(columns)
    for key, kind in found:
        name = folded(key)
        if name in wider:
            wider[name] = wider[name].joined(kind)
        elif can_be_column(name) and len(wider) < MAX_COLUMNS:
            wider[name] = kind
    return wider


def fitting(kind: ColumnType, text: str, *, string: bool) -> bool | int | float | str | None:
    """The value for a column of this type; None if it does not fit.

    Args:
        text: of a string its characters, of another value its JSON; not `null`.
        string: whether it is a string.
    """
    if kind is ColumnType.STRING:
        return text
    if string or text[0] in "[{":
        return None
    if kind is ColumnType.BOOLEAN:
        return {"true": True, "false": False}.get(text)
    if text[0] in "tf":
        return None
    if kind is ColumnType.LONG:
        return int(text) if is_long(text) else None
    return _double(text)
