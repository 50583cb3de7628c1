"""The arithmetic of the benchmarks, and what their report says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.figures import Figure, Result, Target, percentile, ratio
from benchmarks.machine import Machine
from benchmarks.report import suite_json, table, write


def test_a_ratio_is_taken_round_by_round() -> None:
    figure = ratio("k", "a ÷ b", [10.0, 30.0, 4.0], [5.0, 10.0, 4.0])
    assert figure.values == (2.0, 3.0, 1.0)
    assert figure.median == 2.0
    with pytest.raises(ValueError, match="shorter"):
        ratio("k", "a ÷ b", [1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("target", "values", "met"),
    [
        (Target("at least", 4), (3.0, 4.0, 9.0), True),
        (Target("at least", 4), (3.0, 3.9, 9.0), False),
        (Target("at most", 3), (3.0,), True),
        (Target("at most", 3), (2.0, 3.2), True),
        (Target("at most", 3), (3.1,), False),
        (Target("at most", 3), (), False),
        (None, (1.0,), None),
    ],
)
def test_the_median_meets_the_target_or_not(
    target: Target | None, values: tuple[float, ...], met: bool | None
) -> None:
    assert Figure("k", "what", values, "", target).met is met


def test_what_was_measured_in_part_neither_meets_its_target_nor_misses_it() -> None:
    figure = Figure("k", "what", (1.0,), "", Target("at most", 3), whole=False)
    assert figure.met is None
    assert table(Result([figure])).endswith("| ≤ 3 | open |")


def test_the_report_lists_settings_without_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED_KAFKA_SASL_PASSWORD", "hunter2")
    monkeypatch.setenv("LAKEFEED_UNKNOWN", "hunter2")
    monkeypatch.setenv("LAKEFEED_S3_CLIENT", "obstore")
    machine = Machine.this()
    assert machine.settings == {"LAKEFEED_S3_CLIENT": "obstore"}
    assert "hunter2" not in json.dumps(machine.facts()) + machine.sentence()


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.07, 7.0), (0.0, 1.0)]
)
def test_a_percentile_is_one_of_the_values(share: float, expected: float) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], share) == expected


def test_a_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


RESULT = Result(
    [
        Figure("ratio", "a ÷ b", (3.9, 4.5, 4.2), "", Target("at least", 4)),
        Figure("rate", "events/s", (43210.0, 38000.0, 41000.0), "/s"),
        Figure("peak", "at 10 M rows", (), "MiB", Target("at most", 1.1), note="not reached in 300 s"),
    ],
    ("the machine was busy",),
)


def test_the_table_shows_median_spread_and_target() -> None:
    assert table(RESULT).splitlines()[2:] == [
        "| a ÷ b | 4.2 | 3.9 to 4.5 | ≥ 4 | yes |",
        "| events/s | 41,000 /s | 38,000 to 43,200 |  |  |",
        "| at 10 M rows (not reached in 300 s) | not measured |  | ≤ 1.1 | **no** |",
    ]


def test_the_json_has_the_medians_by_key_and_all_rounds() -> None:
    report = suite_json(RESULT)
    assert report["ratio"] == 4.2
    assert report["rate"] == 41000.0
    assert report["peak"] is None
    assert report["rounds"] == {"ratio": [3.9, 4.5, 4.2], "rate": [43210.0, 38000.0, 41000.0], "peak": []}
    assert report["targets"]["ratio"] == {"at least": 4, "met": True}
    assert report["targets"]["peak"]["met"] is False
    assert report["notes"] == ["the machine was busy", "peak: not reached in 300 s"]


def test_the_report_shows_first_what_should_be_reached_of_all_suites(tmp_path: Path) -> None:
    other = Result([Figure("ratio", "c ÷ d", (1.0,), "", Target("at most", 3))])
    machine = Machine("2026-01-01", "abc", "run", "a CPU", 2, 8, "Linux", 0.1, {"Python": "3.11"}, {})
    write(tmp_path, {"one": ("One", RESULT), "two": ("Two", other)}, machine, quick=True)
    report = (tmp_path / "bench.md").read_text()
    reach = report[report.index("### Targets") : report.index("### One")]
    assert [line.split(" | ")[0] for line in reach.splitlines()[4:-1]] == [
        "| a ÷ b",
        "| at 10 M rows (not reached in 300 s)",
        "| c ÷ d",
    ]
    assert "Its figures are meaningless" in report
    content = json.loads((tmp_path / "bench.json").read_text())
    assert (content["one"]["ratio"], content["two"]["ratio"], content["quick"]) == (4.2, 1.0, True)
