"""What is compared is alike, and a benchmark that cannot run says so before it measures."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks import suite
from benchmarks.rows import write_json_lines, write_prices
from benchmarks.topics import EVENT_BYTES, events

ROOT = Path(__file__).resolve().parents[3]


def test_kcat_gets_the_very_events_that_the_producer_makes(tmp_path: Path) -> None:
    csv, lines = tmp_path / "prices.csv", tmp_path / "prices.jsonl"
    write_prices(csv, 500)
    write_json_lines(csv, lines)
    producer = Path(sys.executable).with_name("lakefeed-producer")
    printed = subprocess.run(
        [str(producer), "publish", "--dry-run", "--rejects", str(tmp_path / "rejects.jsonl"), str(csv)],
        capture_output=True,
        check=True,
    ).stdout
    assert printed == lines.read_bytes()


def test_a_backlog_has_events_of_the_stated_size() -> None:
    made = events(1_000)
    assert {len(event) for event in made} == {EVENT_BYTES}
    assert len(set(made)) == 1_000


def test_a_missing_program_is_named_with_its_package_before_anything_is_measured(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--suite", "producer"],
        cwd=tmp_path,
        env={**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "error: there is no kcat. On Debian: apt-get install kcat\n"
    assert not (tmp_path / "build").exists()


SUITES = (
    "sink",
    "batches",
    "producer",
    "lake",
    "restore",
    "latency",
    "memory",
    "startup",
    "query",
    "compact",
)


def test_every_suite_is_found_and_none_knows_another() -> None:
    assert set(suite.find()) == set(SUITES)
    for module in (ROOT / "benchmarks" / "suites").glob("*.py"):
        assert not re.search(r"^(from|import) .*\bsuites\b", module.read_text(), re.MULTILINE), module
