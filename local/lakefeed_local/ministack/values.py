"""Columns and values of DuckDB as Athena writes them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

# Where the names differ.
_TYPES = {"hugeint": "bigint", "blob": "varbinary", "struct": "row", "interval": "interval day to second"}
_NAMES = {
    *("boolean", "tinyint", "smallint", "integer", "bigint", "float", "double", "decimal", "varchar"),
    *("date", "time", "timestamp", "timestamp with time zone", "map"),
}


def athena_type(duckdb: str) -> str:
    """Athena's name of a type of a result, such as `row` for `STRUCT(p INTEGER, o BIGINT)`."""
    if duckdb.endswith("]"):
        return "array"
    name = duckdb.partition("(")[0].strip().lower()
    return name if name in _NAMES else _TYPES.get(name, "varchar")


def shown(value: Any) -> str | None:
    """A value of a result; None for NULL."""
    return None if value is None else _text(value)


def _text(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case datetime():
            return _timestamp(value)
        case bytes() | bytearray():
            return value.hex(" ")
        case list() | tuple():
            return f"[{', '.join(_text(part) for part in value)}]"
        case dict():
            return f"{{{', '.join(f'{name}={_text(part)}' for name, part in value.items())}}}"
        case _:
            return str(value)


def _timestamp(value: datetime) -> str:
    if value.tzinfo is not None:
        value = value.astimezone(UTC)
        return f"{value:%Y-%m-%d %H:%M:%S}.{value.microsecond // 1000:03d} UTC"
    thousandths, rest = divmod(value.microsecond, 1000)
    return f"{value:%Y-%m-%d %H:%M:%S}.{thousandths:03d}" + (f"{rest:03d}" if rest else "")
