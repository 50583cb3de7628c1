"""Runs stages concurrently, each once those that it needs have passed; the first failure ends them all."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_LOOK_SECONDS = 0.2
# A stage is interrupted as by Ctrl-C first, so that its tests can end what they have started.
_END = ((signal.SIGINT, 60.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0))
# What the stages have started knows this variable, also after it has left its parent.
_MARK = "CI_STAGES_RUN"
_PYTEST_FAILED = re.compile(r"^=+ (ERRORS|FAILURES) =+$", re.MULTILINE)
_PYTEST_CLOSING = re.compile(r"^=+ (.*\d (?:passed|failed|error).*) in .* =+$", re.MULTILINE)
_MOST_LINES = 400


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        name: also of its log.
        command: for bash.
        after: the stages that must have passed before.
    """

    name: str
    command: str
    after: Sequence[str] = ()


@dataclass
class Running:
    """A stage that runs, or has ended.

    Attributes:
        began, ended: seconds since the begin of the run.
        cpu_seconds: of its processes, without those of containers.
        code: exit code, once it has ended.
    """

    stage: Stage
    process: subprocess.Popen[bytes]
    log: Path
    began: float
    ended: float = 0.0
    cpu_seconds: float = 0.0
    code: int | None = None

    def text(self) -> str:
        """What it has said up to now."""
        return self.log.read_text(errors="replace")

    def closing_line(self) -> str:
        """The last line of pytest, where it has run."""
        lines = [match[0] for match in _PYTEST_CLOSING.finditer(self.text())]
        return lines[-1] if lines else ""

    def explanation(self) -> str:
        """The end of its log: from pytest's failures on, where it has run."""
        text = self.text()
        failed = _PYTEST_FAILED.search(text)
        lines = text[failed.start() if failed else 0 :].splitlines()
        return "\n".join(lines[-_MOST_LINES:])


class Run:
    """The stages of one run.

    Args:
        stages: in the order of the table.
        logs: folder for a log of each.
    """

    def __init__(self, stages: Sequence[Stage], logs: Path) -> None:
        self._stages = stages
        self._logs = logs
        self._clock = time.monotonic()
        self.running: dict[str, Running] = {}
        names = [stage.name for stage in stages]
        for number, stage in enumerate(stages):
            if unknown := set(stage.after) - set(names[:number]):
                raise ValueError(f"{stage.name} is after {unknown}, which does not come before it")

    def seconds(self) -> float:
        """Since the begin."""
        return time.monotonic() - self._clock

    def go(self) -> Running | None:
        """Run them; returns the first that failed, when the others have been ended."""
        try:
            while len(self._passed()) < len(self._stages):
                self._start_what_can()
                for one in self._open():
                    if self._has_ended(one) and one.code:
                        return one
                time.sleep(_LOOK_SECONDS)
        finally:
            self._end_open()
        return None

    def _passed(self) -> set[str]:
        return {name for name, one in self.running.items() if one.code == 0}

    def _open(self) -> list[Running]:
        return [one for one in self.running.values() if one.code is None]

    def _start_what_can(self) -> None:
        passed = self._passed()
        for stage in self._stages:
            if stage.name not in self.running and passed.issuperset(stage.after):
                self.running[stage.name] = self._start(stage)

    def _start(self, stage: Stage) -> Running:
        log = self._logs / f"{stage.name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", stage.command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                # A group of its own, so that all of it can be ended.
                start_new_session=True,
            )
        say(f"--- {stage.name} begins ({minutes(self.seconds())})")
        return Running(stage, process, log, self.seconds())

    def _has_ended(self, one: Running) -> bool:
        pid, status, used = os.wait4(one.process.pid, os.WNOHANG)
        if not pid:
            return False
        one.code = one.process.returncode = os.waitstatus_to_exitcode(status)
        one.ended = self.seconds()
        one.cpu_seconds = used.ru_utime + used.ru_stime
        if one.code == 0:
            say(f"--- {one.stage.name}: {one.ended - one.began:.0f} s")
        return True

    def _end_open(self) -> None:
        for number, limit in _END:
            for one in self._open():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(one.process.pid, number)
            end = time.monotonic() + limit
            while [one for one in self._open() if not self._has_ended(one)] and time.monotonic() < end:
                time.sleep(_LOOK_SECONDS)

    def table(self) -> str:
        """Each stage: when it began and ended, how long it took, and what pytest counted."""
        rows = [("stage", "begin", "end", "seconds", "CPU s", "tests")]
        for stage in self._stages:
            one = self.running[stage.name]
            closing = _PYTEST_CLOSING.match(one.closing_line())
            took = f"{one.ended - one.began:.0f}", f"{one.cpu_seconds:.0f}"
            counted = closing[1] if closing else ""
            rows.append((stage.name, minutes(one.began), minutes(one.ended), *took, counted))
        total = sum(one.cpu_seconds for one in self.running.values())
        rows.append(("all", minutes(0), minutes(self.seconds()), f"{self.seconds():.0f}", f"{total:.0f}", ""))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if 0 < number < 5 else cell.ljust(width)
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )


def minutes(seconds: float) -> str:
    """As in `12:05`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def say(line: str) -> None:
    """Print it immediately."""
    print(line, flush=True)


def left(mark: str) -> Iterator[int]:
    """Processes that were started by a run and are still there."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{_MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


def end_what_is_left(mark: str, seconds: float) -> None:
    """Wait for what was asked to end; kill what still runs after that."""
    end = time.monotonic() + seconds
    while (pids := list(left(mark))) and time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def run(stages: Iterable[Stage], logs: Path, *, down: str, closing: str, left_seconds: float = 90.0) -> int:
    """Run stages and print a summary; returns the exit code.

    Args:
        stages: each after those that it needs.
        logs: a folder for their logs.
        down: stops what stages have started for those after them.
        closing: the stage whose closing line of pytest is the last line of all.
        left_seconds: for how long that may take; an API server takes a minute.
    """
    logs.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex
    os.environ[_MARK] = mark
    # Even if the caller ignores SIGINT, such as a shell that runs this in the background.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    this = Run(tuple(stages), logs)
    failed, interrupted = None, False
    try:
        failed = this.go()
    except KeyboardInterrupt:
        interrupted = True
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        with (logs / "down.log").open("wb") as log:
            down_command = ["bash", "-c", down]
            subprocess.run(down_command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
        end_what_is_left(mark, left_seconds)
    if interrupted:
        say("interrupted; what was started has ended")
        return 130
    if failed is not None:
        seconds = failed.ended - failed.began
        say(f"--- {failed.stage.name} failed with exit code {failed.code} after {seconds:.0f} s")
        say(failed.explanation())
        return 1
    say(f"\n{this.table()}\n")
    say(this.running[closing].closing_line())
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
