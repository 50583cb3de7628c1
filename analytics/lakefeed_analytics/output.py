"""Prints results to standard output as a table, as CSV or as JSON."""

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
"""So many rows at most are fetched at once."""


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def show(columns: Sequence[str], rows: Iterable[Sequence[Value]], form: Format) -> None:
    """Print rows; CSV and JSON go out row by row, however many there are."""
    if form is not Format.TABLE:
        # UTF-8 whatever the locale says. In JSON the escape of half a character is that half.
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
    # A row may be shorter than the line of names.
    missing: list[Value] = [None] * len(columns)
    texts = [[_cell(value) for value in [*row, *missing][: len(columns)]] for row in lines]
    print_table(columns, texts, numbers)


def _cell(value: Value) -> str:
    return "" if value is None else json.dumps(value) if isinstance(value, bool) else str(value)


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Value]]) -> None:
    """NULL is nothing between the commas, an empty text is `""`."""
    sys.stdout.write(",".join(_field(column) for column in columns) + "\n")
    for row in rows:
        sys.stdout.write(",".join(_field(value) for value in row) + "\n")


def _field(value: Value) -> str:
    text = _cell(value)
    if value == "" or any(char in text for char in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _json(columns: Sequence[str], rows: Iterable[Sequence[Value]]) -> None:
    """An array of objects, one a line. A second column of a name gets `_2` behind it, and so on."""
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
