"""Columns of JSON documents, as a Glue crawler infers them. Pure.

The types form a lattice: `merge` is the least type that can represent both, so the order of documents and
objects does not change the type of a column. Unknown (null, an empty object or array) is at the bottom,
string at the top, and numbers widen from int over bigint to double.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import reduce
from typing import Any

import orjson

from lakefeed_common.tables import folded, is_column_name

# Deeper values are strings, because engines limit the depth of a type.
_DEEPEST = 64
_INT = 2**31
_BIGINT = 2**63


class Plain(Enum):
    """Types without parts."""

    UNKNOWN = "unknown"
    BOOLEAN = "boolean"
    INT = "int"
    BIGINT = "bigint"
    DOUBLE = "double"
    STRING = "string"


@dataclass(frozen=True)
class Struct:
    """An object with its fields, in the order of their first occurrence."""

    fields: Mapping[str, Type]


@dataclass(frozen=True)
class Array:
    """An array of elements of one type."""

    element: Type


Type = Plain | Struct | Array
Columns = Mapping[str, Type]

_NUMBERS = (Plain.INT, Plain.BIGINT, Plain.DOUBLE)


def infer(value: Any, levels: int = _DEEPEST) -> Type:
    """The type of a value of Python's `json`; values below that many levels are strings."""
    match value:
        case list() | dict() if not levels:
            return Plain.STRING
        case None:
            return Plain.UNKNOWN
        case bool():
            return Plain.BOOLEAN
        case int():
            return _infer_integer(value)
        case float():
            return Plain.DOUBLE
        case str():
            return Plain.STRING
        case list():
            nothing: Type = Plain.UNKNOWN
            return Array(reduce(merge, (infer(part, levels - 1) for part in value), nothing))
        case dict():
            return Struct({name: infer(part, levels - 1) for name, part in value.items()})
        case _:
            raise TypeError(f"{type(value).__name__} is not a type of JSON")


def _infer_integer(value: int) -> Plain:
    if -_INT <= value < _INT:
        return Plain.INT
    return Plain.BIGINT if -_BIGINT <= value < _BIGINT else Plain.DOUBLE


def merge(one: Type, other: Type) -> Type:
    """The least type that can represent values of both; unrelated types become strings."""
    match one, other:
        case _ if one == other:
            return one
        case (Plain.UNKNOWN, known) | (known, Plain.UNKNOWN):
            return known
        case Struct(), Struct():
            return Struct(merge_columns(one.fields, other.fields))
        case Array(), Array():
            return Array(merge(one.element, other.element))
        case Plain(), Plain() if one in _NUMBERS and other in _NUMBERS:
            return max(one, other, key=_NUMBERS.index)
        case _:
            return Plain.STRING


def merge_columns(one: Columns, other: Columns) -> Columns:
    """The columns of both, those of the first one first."""
    merged = dict(one)
    for name, found in other.items():
        merged[name] = merge(merged[name], found) if name in merged else found
    return merged


def glue_type(found: Type) -> str:
    """The name of the type in the Glue catalogue, such as `struct<id:int,tags:array<string>>`."""
    match found:
        case Plain.UNKNOWN:
            return "string"
        case Plain():
            return str(found.value)
        case Array():
            return f"array<{glue_type(found.element)}>"
        case Struct():
            parts = ",".join(f"{name}:{glue_type(part)}" for name, part in found.fields.items())
            # Neither Glue nor Athena has a struct without fields.
            return f"struct<{parts}>" if parts else "string"


def table_columns(found: Columns, partition_keys: Iterable[str] = ()) -> list[dict[str, str]]:
    """Columns as Glue's API takes them: `[{"Name": …, "Type": …}]`.

    Names are lower case, as in Glue: names that differ only in case are one column. Names of `left_out` are
    omitted.
    """
    lowered: Columns = {}
    without = set(left_out(found, partition_keys))
    for name, column in found.items():
        if name not in without:
            lowered = merge_columns(lowered, {folded(name): column})
    return [{"Name": name, "Type": glue_type(t)} for name, t in lowered.items()]


def left_out(found: Columns, partition_keys: Iterable[str] = ()) -> list[str]:
    """Names that no column can have: those of partition keys, because Athena refuses a table with a duplicate
    name, and those that the catalogue cannot store.
    """
    keys = set(partition_keys)
    return [name for name in found if folded(name) in keys or not is_column_name(name)]


def unknown_names(found: Columns) -> set[str]:
    """The columns, in lower case, that have only null in the sample."""
    known = {name.lower() for name, column in found.items() if column is not Plain.UNKNOWN}
    return {name.lower() for name in found} - known


def documents(text: str, *, truncated: bool = False) -> Iterator[Any]:
    """The JSON documents of a file: one, one per line, or concatenated.

    Args:
        truncated: only the beginning of the file was read, so the last document may be incomplete.

    Raises:
        ValueError: the text is not JSON.
    """
    decoder = json.JSONDecoder()
    position, end = _skip_space(text, 0), len(text)
    while position < end:
        try:
            document, position = decoder.raw_decode(text, position)
        except ValueError:
            if truncated and position > 0:
                return
            raise
        yield document
        position = _skip_space(text, position)


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


@dataclass(frozen=True)
class Sample:
    """Columns and number of records in the beginning of one object.

    `columns` is None if it is not JSON of a table.
    """

    columns: Columns | None
    records: int


def sample(text: str, *, truncated: bool = False) -> Sample:
    """The columns and the number of documents in the beginning of a file.

    A file with one array is one record with the column `array`, as in Glue.
    """
    columns: Columns = {}
    records = 0
    try:
        for document in _each(text, truncated=truncated):
            match infer(document):
                case Struct(fields):
                    columns = merge_columns(columns, fields)
                case Array() as array:
                    columns = merge_columns(columns, {"array": array})
                case _:
                    return Sample(None, 0)
            records += 1
    except ValueError:
        return Sample(None, 0)
    return Sample(columns, records) if records else Sample(None, 0)


def _each(text: str, *, truncated: bool) -> list[Any]:
    """The documents of a text, at any depth."""
    try:
        return list(documents(text, truncated=truncated))
    except RecursionError:
        # orjson reads 1,024 levels, as the consumer does.
        lines = text.splitlines()[: -1 if truncated else None]
        return [orjson.loads(line) for line in lines if line.strip()]
