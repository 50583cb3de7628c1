"""Shows progress on a terminal as a bar."""

from __future__ import annotations

from types import TracebackType
from typing import Self

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

from lakefeed_common.text import message, visible
from lakefeed_producer.publish.progress import Progress


class BarDisplay:
    """A bar with rate and time left for each file."""

    def __init__(self) -> None:
        self._bars = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("rows"),
            _Rate(),
            TimeRemainingColumn(),
            console=Console(stderr=True, emoji=False),
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
        if progress.file not in self._names:
            self._names[progress.file] = self._bars.add_task(visible(progress.file), total=progress.rows)
        self._bars.update(self._names[progress.file], completed=progress.done)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bars.console.print(message(line), markup=False, emoji=False, highlight=False, soft_wrap=True)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} rows/s" if task.speed else "")
