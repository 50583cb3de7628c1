"""`.ci/run`: stages run in parallel; the first failure stops them all, and its log is printed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.waiting import wait_for

CI = Path(__file__).resolve().parents[3] / ".ci"
PASSED = "echo '===== 7 passed, 1 skipped in 4.21s =====' "
# As pytest reports a failure.
SAID = ["==== FAILURES ====", "E assert 1 == 2", "== 1 failed, 6 passed in 3s =="]
FAILED = f"printf '%s\\n' 'collected 2 items' {' '.join(map(repr, SAID))}; exit 1"


class Stages:
    """Runs stages in a process of its own, as `.ci/run` does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def command(self, *stages: str) -> list[str]:
        program = (
            "import sys; from pathlib import Path; from stages import Stage, run;"
            f"stages = [{', '.join(stages)}];"
            "sys.exit(run(stages, Path('logs'), down='echo >down', closing='tests', left_seconds=1))"
        )
        # By the standard library alone, as on a machine before `make setup`.
        return [sys.executable, "-S", "-c", program]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(CI)}

    def run(self, *stages: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*stages),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def alive(self, name: str) -> bool:
        """Whether the process is there whose id a stage has written into a file."""
        pid = int((self.folder / name).read_text())
        try:
            return " Z " not in Path(f"/proc/{pid}/stat").read_text()
        except FileNotFoundError:
            return False


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return Stages(tmp_path)


def test_the_table_comes_before_the_closing_line_of_the_tests(stages: Stages) -> None:
    done = stages.run(
        "Stage('engine', 'echo noise')",
        f"Stage('tests', {PASSED!r}, after=['engine'])",
        "Stage('cluster', 'true')",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *_, head, engine, tests, cluster, everything, blank, last = done.stdout.splitlines()
    assert last == "===== 7 passed, 1 skipped in 4.21s ====="
    assert blank == ""
    assert head.split() == ["stage", "begin", "end", "seconds", "CPU", "s", "tests"]
    assert re.fullmatch(r"engine +\d+:\d\d +\d+:\d\d +\d+ +\d+", engine)
    assert re.fullmatch(r"tests +\d+:\d\d +\d+:\d\d +\d+ +\d+ +7 passed, 1 skipped", tests)
    assert cluster.startswith("cluster ")
    assert everything.startswith("all ")
    assert "noise" not in done.stdout
    assert re.search(r"^--- engine: \d+ s$", done.stdout, re.MULTILINE)
    assert (stages.folder / "down").exists()


def test_stages_run_in_parallel_after_their_dependencies(stages: Stages) -> None:
    meet = "for _ in $(seq 600); do if [ -e {0} ]; then exit 0; fi; sleep 0.1; done; exit 1"
    done = stages.run(
        f"Stage('one', 'echo >one; {meet.format('two')}')",
        f"Stage('two', 'echo >two; {meet.format('one')}')",
        "Stage('three', 'echo >three; test -e one', after=['one', 'two'])",
        f"Stage('tests', {'test -e three && ' + PASSED!r}, after=['three'])",
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_failure_stops_other_stages_and_prints_its_log(stages: Stages) -> None:
    endless = "echo $$ >{0}; echo busy; while true; do sleep 1; done"
    leaves = "setsid sleep 1000 & echo $! >server"
    done = stages.run(
        f"Stage('engine', {leaves!r})",
        f"Stage('lint', {endless.format('lint')!r}, after=['engine'])",
        f"Stage('e2e', {f'until [ -s lint ]; do sleep 0.1; done; {FAILED}'!r}, after=['engine'])",
        f"Stage('tests', {PASSED!r}, after=['e2e'])",
    )
    assert done.returncode == 1
    report = done.stdout.partition("--- e2e failed with exit code 1 after ")[2].splitlines()
    assert report[1:] == SAID
    assert "busy" not in done.stdout
    assert "tests begins" not in done.stdout
    assert (stages.folder / "down").exists()
    assert not stages.alive("lint")
    assert not stages.alive("server"), "what a stage started has been left behind"


def test_a_failure_without_tests_is_explained_by_the_end_of_its_log(stages: Stages) -> None:
    done = stages.run("Stage('tests', 'seq 1000; echo error: no Docker >&2; exit 3')")
    assert done.returncode == 1
    *lines, last = done.stdout.splitlines()
    assert any(re.fullmatch(r"--- tests failed with exit code 3 after \d+ s", line) for line in lines)
    assert last == "error: no Docker"
    assert "1000" in lines
    assert "500" not in lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_what_it_has_started(stages: Stages, number: signal.Signals) -> None:
    endless = "echo $$ >begun; while true; do sleep 1; done"
    command = stages.command(f"Stage('tests', {endless!r})")
    begun = stages.folder / "begun"
    with subprocess.Popen(command, cwd=stages.folder, env=stages.environment()) as running:
        wait_for(lambda: begun.exists() and begun.read_text(), 60, "the stage")
        running.send_signal(number)
        assert running.wait(60) == 130
    assert not stages.alive("begun")


def test_a_stage_after_one_that_is_not_there_is_refused(stages: Stages) -> None:
    done = stages.run("Stage('tests', 'true', after=['engin'])")
    assert done.returncode == 1
    assert "tests is after {'engin'}" in done.stderr


def test_every_target_that_it_runs_is_one_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (CI.parent / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r'"(?:[^"]*; )?make ([a-z0-9-]+)', (CI / "pipeline.py").read_text()))
    assert {"lint", "test-all", "chaos", "infra-test", "k8s-check", "infra-e2e", "e2e", "k8s-e2e"} <= named
    assert named <= targets
