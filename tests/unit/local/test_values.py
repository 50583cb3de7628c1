"""Types and values of results, as Athena writes them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from lakefeed_local.ministack.values import athena_type, shown


@pytest.mark.parametrize(
    ("duckdb", "athena"),
    [
        ("BIGINT", "bigint"),
        ("HUGEINT", "bigint"),
        ("DECIMAL(10,2)", "decimal"),
        ("TIMESTAMP WITH TIME ZONE", "timestamp with time zone"),
        ("BLOB", "varbinary"),
        ("INTEGER[]", "array"),
        ("STRUCT(a INTEGER)[]", "array"),
        ('STRUCT("p" INTEGER, o BIGINT[])', "row"),
        ("MAP(VARCHAR, VARCHAR)", "map"),
        ('"NULL"', "varchar"),
        ("JSON", "varchar"),
    ],
)
def test_types(duckdb: str, athena: str) -> None:
    assert athena_type(duckdb) == athena


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ("None", "None"),
        (False, "false"),
        (7, "7"),
        (0.5, "0.5"),
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        (Decimal("1.10"), "1.10"),
        (b"eh", "65 68"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, 4, 5), "2026-01-02 03:04:05.000"),
        (datetime(2026, 1, 2, 3, 4, 5, 678901), "2026-01-02 03:04:05.678901"),
        (datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), "2026-01-02 03:04:05.678 UTC"),
        (datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=1))), "2026-01-02 02:00:00.000 UTC"),
        ([1, None, [True]], "[1, null, [true]]"),
        ({"p": 0, "h": [["a", None]]}, "{p=0, h=[[a, null]]}"),
        ({}, "{}"),
    ],
)
def test_values(value: Any, text: str | None) -> None:
    assert shown(value) == text
