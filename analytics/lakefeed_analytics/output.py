"""Prints results to standard output as a table, CSV or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from lakefeed_common.text import lossless, print_table, visible_json

if TYPE_CHECKING:
    from lakefeed_analytics.athena import Value

PAGE = 1000
"""Maximum number of rows per request."""


class Format(StrEnum):
    """Output formats."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def show(columns: Sequence[str], rows: Iterable[Sequence[Value]], form: Format) -> None:
    """Print rows; CSV and JSON are streamed row by row."""
    if form is not Format.TABLE:
        # Always UTF-8, regardless of the locale. In JSON, a lone surrogate is escaped.
        lossless(sys.stdout, encoding="utf-8")
    match form:
        case Format.TABLE:
            _table(columns, rows)
        case Format.CSV:
            _csv(columns, rows)
        case Format.JSON:
            _json(columns, rows)


def _table(columns: Sequence[str], rows: Iterable[Sequence[Value]]) -> None:
    lines = list(rows)
    numbers = [
        bool(lines)
        and all(
            isinstance(row[index], int | float) or row[index] is None for row in lines if index < len(row)
        )
        for index in range(len(columns))
    ]
    # A row may be shorter than the header row.
    missing: list[Value] = [None] * len(columns)
    texts = [[_cell(value) for value in [*row, *missing][: len(columns)]] for row in lines]
    print_table(columns, texts, numbers)


def _cell(value: Value) -> str:
    return "" if value is None else json.dumps(value) if isinstance(value, bool) else str(value)


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Value]]) -> None:
    """Write CSV; NULL is an empty field, an empty text is `""`."""
    sys.stdout.write(",".join(_field(column) for column in columns) + "\n")
    for row in rows:
        sys.stdout.write(",".join(_field(value) for value in row) + "\n")


def _field(value: Value) -> str:
    text = _cell(value)
    if value == "" or any(char in text for char in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _json(columns: Sequence[str], rows: Iterable[Sequence[Value]]) -> None:
    """Write an array of objects, one per line. A second column with the same name gets the suffix `_2`."""
    names: list[str] = []
    for column in columns:
        name, count = column, 1
        while name in names:
            count += 1
            name = f"{column}_{count}"
        names.append(name)
    sys.stdout.write("[")
    for number, row in enumerate(rows):
        line = json.dumps(dict(zip(names, row, strict=False)), ensure_ascii=False)
        sys.stdout.write((",\n " if number else "\n ") + visible_json(line))
    sys.stdout.write("\n]\n")
