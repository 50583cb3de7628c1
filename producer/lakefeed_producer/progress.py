"""Tells the user how far publishing has come: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from lakefeed_producer.publish import Progress

_LINE_SECONDS = 5.0


class Display(Protocol):
    """Shows the progress of one file after another."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, progress: Progress) -> None:
        """Called a few times a second with how far it has come."""

    def say(self, line: str) -> None:
        """Print a line."""


def display() -> Display:
    """The one that fits where standard error goes."""
    return BarDisplay() if sys.stderr.isatty() else LineDisplay()


class LineDisplay:
    """A line now and then."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to end."""

    def show(self, progress: Progress) -> None:
        """A line every few seconds."""
        now = time.monotonic()
        if now - self._last < _LINE_SECONDS:
            return
        self._last = now
        self.say(describe(progress))

    def say(self, line: str) -> None:
        """Print a line to standard error."""
        print(line, file=sys.stderr, flush=True)


class BarDisplay:
    """A bar with rate and time left."""

    def __init__(self) -> None:
        self._bars = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("rows"),
            _Rate(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._names: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def show(self, progress: Progress) -> None:
        """Move the bar of the file."""
        done = progress.delivered + progress.rejected
        if progress.file not in self._names:
            self._names[progress.file] = self._bars.add_task(progress.file, total=progress.rows)
        self._bars.update(self._names[progress.file], completed=done)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} rows/s" if task.speed else "")


def describe(progress: Progress) -> str:
    """`prices.csv: 120,000 of 1,000,000 rows, 45,000 rows/s, 20 s left`."""
    done = progress.delivered + progress.rejected
    line = f"{progress.file}: {done:,} of {progress.rows:,} rows"
    if done and progress.seconds > 0:
        rate = done / progress.seconds
        line += f", {rate:,.0f} rows/s, {(progress.rows - done) / rate:,.0f} s left"
    return line
