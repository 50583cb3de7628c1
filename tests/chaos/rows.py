"""The CSV files of a run and the broken records between them, with what must become of each."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.chaos.verify import RowId

_NAMES = ("plain", "a, b", 'say "hi"', "two\nlines", "ünï çødé", "007", "{}", "null")
_BROKEN: Sequence[bytes | None] = (
    None,
    b"",
    b"hello",
    b"[1,2]",
    b'"text"',
    b"17",
    b'{"a":',
    b'{"a":1,"a":2}',
    b"\xff\xfe{}",
)
BROKEN_SOURCE = "broken"


def write_files(
    folder: Path, seed: int, events: int, files: int
) -> tuple[list[Path], dict[RowId, dict[str, Any]]]:
    """Write CSV files with that many rows together; returns them and the event that each row must become."""
    chance = random.Random(f"{seed} rows")
    expected: dict[RowId, dict[str, Any]] = {}
    paths = []
    for number in range(files):
        path = folder / f"part-{number}.csv"
        count = events // files + (number < events % files)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "name", "price", "amount", "note"])
            for row in range(1, count + 1):
                event = _event(chance, len(expected))
                writer.writerow(["" if value is None else value for value in event.values()])
                expected[path.name, row] = event
        paths.append(path)
    return paths, expected


def _event(chance: random.Random, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"{chance.choice(_NAMES)} {chance.randrange(10**6)}",
        "price": round(chance.uniform(0.01, 1000), 2),
        "amount": chance.randrange(1, 10**9),
        "note": "x" * chance.randrange(1, 200) if chance.random() < 0.7 else None,
    }


def broken_values(seed: int, count: int) -> dict[RowId, bytes | None]:
    """Values of records that are not valid events."""
    chance = random.Random(f"{seed} broken")
    return {(BROKEN_SOURCE, number): chance.choice(_BROKEN) for number in range(count)}
