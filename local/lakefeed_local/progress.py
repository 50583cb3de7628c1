"""Progress of downloads and counts: a bar on a terminal, a few lines in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Report(Protocol):
    """Gets what has been done since the last call."""

    def __call__(self, *, files: int = 0, size: int = 0) -> None:
        """Count finished files and bytes."""


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show on standard error how many of a total are done; yields a function that takes the number so far."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (BarColumn(), TextColumn("{task.completed:,} of {task.total:,} {task.description}"))
        with Progress(TextColumn(" " * 9), *columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(what, total=total)
            yield lambda done: progress.update(task, completed=done)
        return
    shown = 0

    def line(done: int) -> None:
        nonlocal shown
        # Four lines, whatever the total.
        if 4 * done // total > 4 * shown // total:
            shown = done
            print(f"          {done:,} of {total:,} {what}", file=sys.stderr, flush=True)

    yield line


@contextmanager
def downloading(what: str, files: int) -> Iterator[Report]:
    """Show the download of a number of files on standard error."""
    if sys.stderr.isatty():
        with _bar(what, files) as report:
            yield report
        return
    done = size_done = 0
    print(f"Downloading {what}: {files} files", file=sys.stderr, flush=True)

    def report_line(*, files: int = 0, size: int = 0, total: int = files) -> None:
        nonlocal done, size_done
        before, done, size_done = done, done + files, size_done + size
        # Four lines, whatever the number of files.
        if 4 * done // total > 4 * before // total:
            print(
                f"Downloading {what}: {done}/{total}, {size_done / 1e6:.1f} MB", file=sys.stderr, flush=True
            )

    yield report_line


@contextmanager
def _bar(what: str, files: int) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("Downloading {task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} files, {task.fields[megabytes]:.1f} MB"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=files, megabytes=0.0)
        size_done = 0

        def report(*, files: int = 0, size: int = 0) -> None:
            nonlocal size_done
            size_done += size
            progress.update(task, advance=files, megabytes=size_done / 1e6)

        yield report
