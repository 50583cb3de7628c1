"""Rejects are kept until new ones of the same rows replace them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lakefeed_common.errors import UnavailableError
from lakefeed_producer.csv.rejects import Reason, Reject
from lakefeed_producer.kafka.batch import EventBatch
from lakefeed_producer.publish.rejects_file import RejectsFile
from tests.helpers.memory_topic import MemoryTopic
from tests.helpers.publishing import command

BAD = "a,b\n1,2\n3\n4,5\n6,7,8\n"


def kept(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def rows(path: Path) -> list[int]:
    return [line["row"] for line in kept(path)]


@pytest.fixture
def rejects(memory_topic: MemoryTopic, tmp_path: Path) -> Path:
    """The rejects of a publication of x.csv."""
    (tmp_path / "x.csv").write_text(BAD)
    assert command(tmp_path, "publish", "x.csv").returncode == 3
    rejects = tmp_path / "x.csv.rejects.jsonl"
    assert [(line["path"], line["row"]) for line in kept(rejects)] == [
        (str(tmp_path / "x.csv"), 2),
        (str(tmp_path / "x.csv"), 4),
    ]
    return rejects


@pytest.mark.parametrize("options", [[], ["--limit", "1"], ["--rejects", "x.csv.rejects.jsonl"]])
def test_a_dry_run_keeps_the_rejects_of_a_publication(
    rejects: Path, tmp_path: Path, options: list[str]
) -> None:
    before = rejects.read_bytes()
    done = command(tmp_path, "publish", "x.csv", "--dry-run", *options)
    assert rejects.read_bytes() == before
    assert ("Name another file with --rejects PATH" in done.stderr) == (done.returncode == 3)
    assert f"see {rejects.name}" not in done.stderr
    done = command(tmp_path, "publish", "x.csv", "--dry-run", "--rejects", "r.jsonl")
    assert "(see r.jsonl)" in done.stderr
    assert rows(tmp_path / "r.jsonl") == [2, 4]


def test_rejects_of_a_dry_run_are_replaced_by_the_next_run(memory_topic: MemoryTopic, tmp_path: Path) -> None:
    rejects = tmp_path / "x.csv.rejects.jsonl"
    (tmp_path / "x.csv").write_text(BAD)
    for _ in range(2):
        command(tmp_path, "publish", "x.csv", "--dry-run")
        assert [(line["row"], line["dry_run"]) for line in kept(rejects)] == [(2, True), (4, True)]
    command(tmp_path, "publish", "x.csv")
    assert [(line["row"], "dry_run" in line) for line in kept(rejects)] == [(2, False), (4, False)]


def test_a_run_that_is_refused_keeps_the_rejects(rejects: Path, tmp_path: Path) -> None:
    before = rejects.read_bytes()
    (tmp_path / "x.csv").write_text("a,b\n1,2\n3,4\n5\n")
    assert command(tmp_path, "publish", "x.csv").returncode == 1
    assert rejects.read_bytes() == before


def test_a_run_replaces_the_rejects_of_its_own_file_only(rejects: Path, tmp_path: Path) -> None:
    foreign = b'not JSON\n{"path":1}\n\xff\n'
    rejects.write_bytes(foreign + rejects.read_bytes())
    before = rejects.read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.csv").write_text("a,b\n1\n")
    assert command(tmp_path, "publish", "in/x.csv", "--republish").returncode == 3
    assert rejects.read_bytes().startswith(before)
    (tmp_path / "x.csv").write_text("a,b\n1,2,3\n4,5\n")
    assert command(tmp_path, "publish", "x.csv", "--republish").returncode == 3
    lines = rejects.read_bytes().removeprefix(foreign).splitlines()
    assert len(lines) == 2
    assert [(json.loads(line)["path"], json.loads(line)["raw"]) for line in lines] == [
        (str(tmp_path / "in" / "x.csv"), "1"),
        (str(tmp_path / "x.csv"), "1,2,3"),
    ]


def test_a_run_without_rejects_removes_earlier_ones(rejects: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    assert command(tmp_path, "publish", "x.csv", "--republish").returncode == 0
    assert rejects.read_bytes() == b""


def test_rejects_of_rows_that_a_run_does_not_reach_are_kept(
    rejects: Path, memory_topic: MemoryTopic, tmp_path: Path
) -> None:
    command(tmp_path, "publish", "x.csv", "--republish", "--limit", "3")
    assert sorted(rows(rejects)) == [2, 4]

    def fail(_: EventBatch) -> None:
        raise UnavailableError("gone")

    memory_topic.before_send = fail
    assert command(tmp_path, "publish", "x.csv", "--republish").returncode == 1
    assert sorted(rows(rejects)) == [2, 4]


def test_after_a_kill_each_reject_is_there_once(
    rejects: Path, memory_topic: MemoryTopic, tmp_path: Path
) -> None:
    before = rejects.read_bytes()
    # As left by a run that was killed after its first reject, in the middle of the second one.
    first = before.splitlines(keepends=True)[0]
    rejects.write_bytes(before + first + b'{"file":"x.c')
    assert command(tmp_path, "publish", "x.csv").returncode == 3
    *broken, second, fourth = rejects.read_bytes().splitlines()
    assert broken == [b'{"file":"x.c']
    assert [json.loads(line)["row"] for line in (second, fourth)] == [2, 4]


def test_concurrent_runs_keep_the_rejects_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"

    def one(name: str, row: int) -> Reject:
        return Reject(name, f"/{name}", row, row, Reason.BAD_QUOTES, "", b"")

    with RejectsFile(path) as first:
        first.begin("/a")
        first.write([one("a", 1), one("a", 2)])
        first.end(None)
    with RejectsFile(path) as first, RejectsFile(path) as second:
        first.begin("/a")
        first.write([one("a", 1)])
        second.begin("/b")
        second.write([one("b", 1)])
        first.end(None)
        second.end(None)
        assert [(line["file"], line["row"]) for line in kept(path)] == [
            ("a", 1),
            ("a", 2),
            ("a", 1),
            ("b", 1),
        ]
    with RejectsFile(path) as first:
        first.begin("/a")
        first.write([one("a", 1)])
        first.end(None)
    assert [(line["file"], line["row"]) for line in kept(path)] == [("b", 1), ("a", 1)]


def test_a_rejects_file_may_be_a_device(memory_topic: MemoryTopic, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(BAD)
    for options in ([], ["--dry-run"]):
        assert command(tmp_path, "publish", "x.csv", "--rejects", "/dev/null", *options).returncode == 3
    assert Path("/dev/null").is_char_device()
