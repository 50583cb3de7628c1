"""Turns lines of batch objects into rows: Arrow tables with the columns of the Iceberg table.

Lines whose keys and types are the table's are parsed by Arrow. Lines that Arrow refuses, because of a new
key, a value of another type or anything else, are taken apart one by one. Both ways give the same rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

from lakefeed_analytics.iceberg.columns import (
    KAFKA_OFFSET,
    KAFKA_PARTITION,
    KAFKA_TIMESTAMP,
    MAX_COLUMNS,
    UNFIT,
    Columns,
    ColumnType,
    can_be_column,
    fitting,
    type_of,
)
from lakefeed_analytics.iceberg.events import Field, fields
from lakefeed_common.errors import InputError
from lakefeed_common.lake.lines import KAFKA_FIELD, from_line
from lakefeed_common.tables import PARTITION_KEY, folded

ARROW_TYPES = {
    ColumnType.BOOLEAN: pa.bool_(),
    ColumnType.LONG: pa.int64(),
    ColumnType.DOUBLE: pa.float64(),
    ColumnType.STRING: pa.string(),
}
TIMESTAMP = pa.timestamp("us", tz="UTC")
TEXTS = pa.map_(pa.string(), pa.string())
_PLACE: list[tuple[str, Any]] = [("p", pa.int64()), ("o", pa.int64()), ("t", pa.int64())]
_DETAILS: dict[str, Any] = {"k": pa.string(), "h": pa.list_(pa.list_(pa.string())), "s": pa.string()}
# Iceberg's timestamps are microseconds in 64 bits; what readers show ends with the year 9999.
_TIMESTAMPS_MS = range((date.max.toordinal() + 1 - date(1970, 1, 1).toordinal()) * 86_400_000)
# Larger doubles may be an integer that was rounded.
_EXACT_BELOW = pa.scalar(2.0**53)


class Lines(NamedTuple):
    """Lines of one object, or of several one-event objects of a day.

    Attributes:
        topic: whose events they are.
        day: the object's day folder.
        data: one line or more, each with its line end.
        records: how many, one a line.
        origin: where they are from, for messages.
    """

    topic: str
    day: str
    data: bytes
    records: int
    origin: str


def found_types(lines: Lines) -> list[tuple[str, ColumnType]]:
    """Keys of the events, in order of their first appearance, and the narrowest types for their values."""
    if not lines.data:
        return []
    table = _parsed(lines, None, _details(lines.data))
    if table is None:
        return _types_one_by_one(lines)
    kinds = {each.name: _column_type(each.type) for each in table.schema if each.name != KAFKA_FIELD}
    return [(name, kind) for name, kind in kinds.items() if kind is not None]


def _types_one_by_one(lines: Lines) -> list[tuple[str, ColumnType]]:
    kinds: dict[str, ColumnType] = {}
    for line in _split(lines.data):
        for field in fields(from_line(lines.topic, line).value or b""):
            kind = type_of(field.text, string=field.string)
            if kind is not None:
                kinds[field.key] = kinds[field.key].joined(kind) if field.key in kinds else kind
    return list(kinds.items())


def _column_type(kind: pa.DataType) -> ColumnType | None:
    if pa.types.is_null(kind):
        return None
    known = {arrow: ours for ours, arrow in ARROW_TYPES.items()}
    # Arrow takes some strings for times; objects and arrays become JSON.
    return known.get(kind, ColumnType.STRING)


class RowReader:
    """Reads rows with given columns, and learns how events write their keys.

    Args:
        columns: of the table.
    """

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._keys = {name: name for name in columns}
        # Keys that had no other value than null.
        self._nulls: set[str] = set()
        # Those seen so far: to look for them costs a twentieth of the parsing.
        self._details: set[str] = set()
        self._usual = self._expected()

    def read(self, lines: Lines) -> tuple[pa.Table, bool]:
        """The rows of lines, and whether all keys of their events have columns that can have one.

        Returns:
            A table with the event's columns, then this project's own.

        Raises:
            InputError: a line is damaged.
        """
        table = _parsed(lines, self._usual, self._details)
        if table is None and not (details := _details(lines.data)) <= self._details:
            self._details |= details
            table = _parsed(lines, self._usual, self._details)
        if table is None:
            rows, known = self._one_by_one(lines)
            self._usual = self._expected()
            return rows, known
        kafka = table.column(KAFKA_FIELD).combine_chunks()
        events = dict(zip(self._columns, table.columns, strict=False))
        place = [pc.struct_field(kafka, name) for name in ("p", "o", "t")]
        return _with_own_columns(events, place, lines, pa.nulls(len(table), TEXTS)), True

    def _expected(self) -> list[tuple[str, Any]]:
        nulls = self._nulls.difference(self._keys.values())
        return [
            *((self._keys[name], ARROW_TYPES[kind]) for name, kind in self._columns.items()),
            *((key, pa.null()) for key in sorted(nulls)),
        ]

    def _one_by_one(self, lines: Lines) -> tuple[pa.Table, bool]:
        values: dict[str, list[Any]] = {name: [] for name in self._columns}
        place: tuple[list[int], list[int], list[int]] = ([], [], [])
        unfit: list[list[tuple[str, str]] | None] = []
        known = True
        for line in _split(lines.data):
            try:
                record = from_line(lines.topic, line)
                row, left = self._row(fields(record.value or b""))
            except (InputError, ValueError) as error:
                raise InputError(f"{lines.origin}: {error}") from error
            for name, column in values.items():
                column.append(row.get(name))
            numbers = (record.partition.number, record.offset, record.timestamp_ms)
            for each, number in zip(place, numbers, strict=True):
                each.append(number)
            known = known and all(self._is_known(key) for key in left)
            unfit.append(list(left.items()) or None)
        events = {name: pa.array(values[name], ARROW_TYPES[self._columns[name]]) for name in values}
        arrays = [pa.array(each, pa.int64()) for each in place]
        return _with_own_columns(events, arrays, lines, pa.array(unfit, TEXTS)), known

    def _is_known(self, key: str) -> bool:
        name = folded(key)
        return name in self._columns or not can_be_column(name) or len(self._columns) >= MAX_COLUMNS

    def _row(self, event: Iterable[Field]) -> tuple[dict[str, Any], dict[str, str]]:
        """The values of an event by column, and by key what does not fit."""
        row: dict[str, Any] = {}
        left: dict[str, str] = {}
        keys: dict[str, str] = {}
        # Of a key that occurs twice, parsers of JSON take the last value.
        for field in {field.key: field for field in event}.values():
            name = folded(field.key)
            if name in self._columns and keys.setdefault(name, field.key) == field.key:
                self._keys[name] = field.key
                if field.string or field.text != "null":
                    row[name] = fitting(self._columns[name], field.text, string=field.string)
                    if row[name] is None:
                        left[field.key] = field.text
            elif not field.string and field.text == "null":
                self._nulls.add(field.key)
            else:
                left[field.key] = field.text
        return row, left


def _split(data: bytes) -> list[bytes]:
    """Lines; a carriage return does not end one."""
    return data.removesuffix(b"\n").split(b"\n")


def _details(data: bytes) -> set[str]:
    """The fields of `_kafka` that some lines have and others do not; possibly more of them."""
    return {name for name in _DETAILS if b'"%b":' % name.encode() in data}


def _parsed(
    lines: Lines, expected: Iterable[tuple[str, Any]] | None, details: Collection[str]
) -> pa.Table | None:
    """The lines as Arrow parses them; None if it refuses or alters a number.

    Args:
        lines: what to parse.
        expected: keys of events and their types; None if types follow from the values.
        details: fields of `_kafka` that a line may have. One that no line has costs Arrow as much as one that
            all have.
    """
    if b"\r" in lines.data:
        # For Arrow it ends a line.
        return None
    kafka = (KAFKA_FIELD, pa.struct([*_PLACE, *((name, _DETAILS[name]) for name in details)]))
    source: Any = pa.BufferReader(lines.data)
    try:
        table = arrow_json.read_json(
            source,
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(lines.data) + 1),
            parse_options=arrow_json.ParseOptions(
                explicit_schema=pa.schema([*(expected or ()), kafka]),
                unexpected_field_behavior="error" if expected is not None else "infer",
            ),
        )
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    return table if len(table) == lines.records and _is_exact(table) else None


def _is_exact(table: pa.Table) -> bool:
    """Whether no number was altered: Arrow rounds integers to doubles, and some numbers to infinity."""
    return all(
        pc.all(pc.less(pc.abs(table.column(index)), _EXACT_BELOW)).as_py() is not False
        for index, kind in enumerate(table.schema.types)
        if kind == pa.float64()
    )


def _with_own_columns(events: dict[str, Any], place: list[Any], lines: Lines, unfit: Any) -> pa.Table:
    partition, offset, timestamp_ms = place
    if partition.null_count or offset.null_count:
        raise InputError(f"{lines.origin}: damaged: a line without partition and offset in {KAFKA_FIELD}")
    shown = pc.and_(
        pc.greater_equal(timestamp_ms, pa.scalar(_TIMESTAMPS_MS.start)),
        pc.less(timestamp_ms, pa.scalar(_TIMESTAMPS_MS.stop)),
    )
    micros = pc.multiply(pc.if_else(shown, timestamp_ms, pa.scalar(None, pa.int64())), 1000)
    own = {
        KAFKA_PARTITION: pc.cast(partition, pa.int32()),
        KAFKA_OFFSET: offset,
        KAFKA_TIMESTAMP: pc.cast(micros, TIMESTAMP),
        PARTITION_KEY: pa.repeat(pa.scalar(lines.day), len(offset)),
        UNFIT: unfit,
    }
    return pa.table({**events, **own})
