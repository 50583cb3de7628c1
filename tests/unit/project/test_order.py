"""The order in which test processes take tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import order


@dataclass(frozen=True)
class Item:
    nodeid: str


@pytest.fixture(autouse=True)
def durations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "durations.json"
    path.write_text(
        json.dumps({"tests/unit/b.py::two": 2.0, "tests/unit/b.py::x": 2.0, "tests/e/c.py::y": 3.0})
    )
    monkeypatch.setattr(order, "DURATIONS", path)
    return path


def test_the_longest_come_first_and_files_of_unit_tests_stay_together() -> None:
    names = ["tests/e/c.py::new", "tests/unit/b.py::x", "tests/e/c.py::y", "tests/unit/b.py::two"]
    items: list[Any] = [Item(name) for name in names]
    order.sort(items)
    assert [item.nodeid for item in items] == [names[1], names[3], names[2], names[0]]


def test_recording_keeps_what_did_not_run_and_drops_what_is_short(durations: Path) -> None:
    reports = [
        pytest.TestReport("tests/e/c.py::y", ("", None, ""), {}, "passed", None, "setup", duration=0.5),
        pytest.TestReport("tests/e/c.py::y", ("", None, ""), {}, "passed", None, "call", duration=4.0),
        pytest.TestReport("tests/unit/b.py::x", ("", None, ""), {}, "passed", None, "call", duration=0.1),
    ]
    order.record(reports)
    assert json.loads(durations.read_text()) == {"tests/e/c.py::y": 4.5, "tests/unit/b.py::two": 2.0}
