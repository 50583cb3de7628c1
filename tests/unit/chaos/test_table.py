"""The chaos suite's check of the Iceberg table finds rows that are missing, doubled or altered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.chaos.table import check_table
from tests.chaos.verify import Entry, RowId, Verdict
from tests.helpers.lake_objects import START_MS

EVENTS: dict[RowId, dict[str, Any]] = {("a.csv", n): {"n": n, "note": None} for n in range(4)}
RECORDS = [
    *(Entry(0, n, START_MS + n, ("a.csv", n), b"") for n in range(4)),
    Entry(0, 4, START_MS, ("broken", 0), b"hello"),
]


def rows() -> list[dict[str, Any]]:
    return [
        {
            "kafka_partition": 0,
            "kafka_offset": n,
            "kafka_timestamp": datetime.fromtimestamp((START_MS + n) / 1000, UTC),
            "dt": "2026-01-01",
            "unfit": None,
            "n": n,
            "note": None,
        }
        for n in range(4)
    ]


def check(table: list[dict[str, Any]]) -> Verdict:
    verdict = Verdict()
    check_table(table, RECORDS, EVENTS, verdict)
    return verdict


def test_each_event_in_one_row_is_good() -> None:
    verdict = check(rows())
    assert verdict.good, verdict.examples
    assert verdict.table_rows == 4


CHANGES: list[tuple[Callable[[list[dict[str, Any]]], object], dict[str, int]]] = [
    (lambda table: table.pop(), {"table_lost": 1}),
    (lambda table: table.append(dict(table[0])), {"table_doubled": 1}),
    (lambda table: table.append(table[0] | {"kafka_offset": 4}), {"table_doubled": 1}),
    (lambda table: table[0].update(n=2), {"table_altered": 1}),
    (lambda table: table[0].update(n=None), {"table_altered": 1}),
    (lambda table: table[0].update(note="x"), {"table_altered": 1}),
    (lambda table: table[0].update(other=1), {"table_altered": 1}),
    (lambda table: table[0].update(unfit=[("n", "x")]), {"table_altered": 1}),
    (lambda table: table[0].update(dt="2026-01-02"), {"table_altered": 1}),
    (lambda table: table[0].update(kafka_timestamp=datetime.now(UTC)), {"table_altered": 1}),
]


@pytest.mark.parametrize(("change", "wrong"), CHANGES)
def test_what_is_wrong_in_the_table_is_found(
    change: Callable[[list[dict[str, Any]]], object], wrong: dict[str, int]
) -> None:
    table = rows()
    change(table)
    assert check(table).wrong == wrong
