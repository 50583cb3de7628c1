"""Shows progress to the user: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol, Self

from lakefeed_common.text import message
from lakefeed_producer.publish.progress import Progress

_LINE_SECONDS = 5.0


class Display(Protocol):
    """Shows the progress of one file after another."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, progress: Progress) -> None:
        """Show a snapshot; called a few times a second."""

    def say(self, line: str) -> None:
        """Print a line."""


def display() -> Display:
    """The display that suits standard error."""
    if not sys.stderr.isatty():
        return LineDisplay()
    # Rich takes a moment to import.
    from lakefeed_producer.publish.bar import BarDisplay

    return BarDisplay()


class LineDisplay:
    """Prints a line every few seconds."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""

    def show(self, progress: Progress) -> None:
        """Print a line if the last one is some seconds ago."""
        now = time.monotonic()
        if now - self._last < _LINE_SECONDS:
            return
        self._last = now
        self.say(describe(progress))

    def say(self, line: str) -> None:
        """Print a line to standard error."""
        print(message(line), file=sys.stderr, flush=True)


def describe(progress: Progress) -> str:
    """`prices.csv: 120,000 of 1,000,000 rows, 45,000 rows/s, 20 s left`."""
    done = progress.done
    line = f"{progress.file}: {done:,} of {progress.rows:,} rows"
    if done and progress.seconds > 0:
        rate = done / progress.seconds
        line += f", {rate:,.0f} rows/s, {(progress.rows - done) / rate:,.0f} s left"
    return line
