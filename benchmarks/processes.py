"""What the kernel says of processes: memory, handles, CPU. Linux only: it reads `/proc`."""

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
    """Read what the kernel says of a process.

    Raises:
        OSError: it has ended.
    """
    status = _status(pid)
    return Sample(_mib(status["VmRSS"]), len(list(Path(f"/proc/{pid}/fd").iterdir())), int(status["Threads"]))


def tree(pid: int) -> Iterator[int]:
    """A process and all that it has started, and those have; without what has ended."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from tree(int(child))


def memory_mib(pid: int) -> float:
    """Resident memory of a process and of those it has started, now; what they share counts for each."""
    return _sum(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    """The most resident memory that each of them had up to now, in all; what has ended counts no more."""
    return _sum(pid, "VmHWM")


def cpu_seconds(pid: int) -> float:
    """CPU time, user and system, of a process and of all that it has started, those ended included.

    In steps of a hundredth of a second. 0 once the process itself has ended.
    """
    ticks = 0
    for one in tree(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        # utime, stime; and of ended children, cutime and cstime: a living child has those too.
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
