"""Memory, open files and CPU of processes, from `/proc` (Linux only)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """One process at one moment: resident memory in MiB, open files, threads."""

    memory_mib: float
    files: int
    threads: int


def sample(pid: int) -> Sample:
    """Read the state of a process.

    Raises:
        OSError: it has ended.
    """
    status = _status(pid)
    return Sample(_mib(status["VmRSS"]), len(list(Path(f"/proc/{pid}/fd").iterdir())), int(status["Threads"]))


def tree(pid: int) -> Iterator[int]:
    """A process and its running descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from tree(int(child))


def memory_mib(pid: int) -> float:
    """Current resident memory of a process and its descendants; shared memory counts for each."""
    return _sum(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    """Sum of the peak resident memory of a process and its running descendants."""
    return _sum(pid, "VmHWM")


def cpu_seconds(pid: int) -> float:
    """User and system CPU time of a process and its descendants, including those that have ended.

    In steps of a hundredth of a second. 0 once the process itself has ended.
    """
    ticks = 0
    for one in tree(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        # utime, stime; for ended children, cutime and cstime, which a running child has as well.
        ticks += sum(map(int, fields[11:15]))
    return ticks / _TICK


def _sum(pid: int, field: str) -> float:
    total = 0.0
    for one in tree(pid):
        try:
            total += _mib(_status(one)[field])
        except (OSError, KeyError):  # it has ended, or is about to
            continue
    return total


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _mib(kibibytes: str) -> float:
    return int(kibibytes.split()[0]) / 1024
