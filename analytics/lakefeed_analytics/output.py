"""Prints results to standard output as a table, as CSV or as JSON."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

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
    _encode(form)
    match form:
        case Format.TABLE:
            _table(columns, rows)
        case Format.CSV:
            _csv(columns, rows)
        case Format.JSON:
            _json(columns, rows)


def _encode(form: Format) -> None:
    """CSV and JSON are UTF-8 whatever the locale says; a table shows what the terminal can."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        if form is Format.TABLE:
            sys.stdout.reconfigure(errors="replace")
        else:
            sys.stdout.reconfigure(encoding="utf-8")


def _table(columns: Sequence[str], rows: Iterable[Sequence[Value]]) -> None:
    # CSV and JSON, and the help that names all three, do without.
    from rich.console import Console
    from rich.table import Table

    lines = list(rows)
    table = Table()
    for index, column in enumerate(columns):
        numbers = all(
            isinstance(row[index], int | float) or row[index] is None for row in lines if index < len(row)
        )
        table.add_column(column, justify="right" if lines and numbers else "left", overflow="fold")
    for row in lines:
        table.add_row(*(_cell(value) for value in row))
    # Without a terminal a line is as long as it needs to be.
    console = Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 10_000)
    console.print(table)


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
        sys.stdout.write((",\n " if number else "\n ") + line)
    sys.stdout.write("\n]\n")
