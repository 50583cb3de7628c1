"""The work of a compaction between its plan and its commit: reading objects and writing data files.

It is done in this process, or spread over others: tasks can be repeated or lost, since nothing refers to a
data file before it is committed, and a commit has the files of one result of each task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.manifest import DataFile

from lakefeed_analytics.edge import explained
from lakefeed_analytics.iceberg.chain import Range, split
from lakefeed_analytics.iceberg.columns import (
    KAFKA_OFFSET,
    KAFKA_PARTITION,
    UNFIT,
    Columns,
    ColumnType,
    widened,
)
from lakefeed_analytics.iceberg.rows import Lines, RowReader, found_types
from lakefeed_analytics.iceberg.source import CONNECTIONS, Source
from lakefeed_analytics.iceberg.writing import DataFiles, Target
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common import aws
from lakefeed_common.errors import InputError, LakefeedError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

# One GET each: about half a minute of one core.
_TASK_OBJECTS = 10_000


class NewKeyError(Exception):
    """Events have a key that could be a column."""


@dataclass(frozen=True)
class Written:
    """Data files that are not committed yet.

    Attributes:
        files: what describes them, for the commit.
        unfit: how many of their rows have values that do not fit their column.
    """

    files: Sequence[DataFile]
    unfit: int


class Work(Protocol):
    """Reads objects and writes data files."""

    def write(
        self, target: Target, columns: Columns, part: Sequence[Range], *, extend: bool = False
    ) -> Written:
        """Write the rows of a commit.

        Args:
            target: the table at the commit.
            columns: the event's columns in it.
            part: what to read.
            extend: whether keys that could be columns end it.

        Raises:
            NewKeyError: events have such a key.
            InputError: an object is damaged.
        """
        ...

    def found_columns(self, columns: Columns, part: Sequence[Range]) -> dict[str, ColumnType]:
        """The columns that the events of a commit need, beyond the given ones and as wide as needed."""
        ...


class NewFiles(Protocol):
    """Opens the data files of a commit."""

    def __call__(self, target: Target) -> DataFiles:
        """For rows of this table."""
        ...


@dataclass(frozen=True)
class LocalWork:
    """Works in this process.

    Attributes:
        source: the topic's objects.
        new_files: opens data files.
    """

    source: Source
    new_files: NewFiles

    @classmethod
    def of(cls, s3: S3Client, settings: CompactSettings, topic: str, progress: Callable[[], None]) -> Self:
        """For a topic's objects and table; `progress` is called while a file is uploaded."""
        new_files = partial(DataFiles, s3, settings, progress)
        return cls(Source(s3, settings, topic), new_files)

    def write(
        self, target: Target, columns: Columns, part: Sequence[Range], *, extend: bool = False
    ) -> Written:
        """See `Work`."""
        reader = RowReader(columns)
        unfit = 0
        with self.new_files(target) as files:
            for each in part:
                position = each.start
                for lines, start, end in self.source.lines(each.objects):
                    if not lines.data:
                        # A batch of dead letters alone.
                        position = end
                        continue
                    rows, known = reader.read(lines)
                    if extend and not known:
                        raise NewKeyError
                    rows = _between(rows, lines, each.partition, max(start, position), end)
                    position = end
                    unfit += len(rows) - rows.column(UNFIT).null_count
                    files.add(lines.day, rows)
        return Written(files.finished, unfit)

    def found_columns(self, columns: Columns, part: Sequence[Range]) -> dict[str, ColumnType]:
        """See `Work`."""
        wider = dict(columns)
        for each in part:
            for lines, _, _ in self.source.lines(each.objects):
                wider = widened(wider, found_types(lines))
        return wider


def _between(rows: pa.Table, lines: Lines, partition: int, start: int, end: int) -> pa.Table:
    """The rows of a partition from an offset on up to another; checks that their offsets ascend."""
    offsets = rows.column(KAFKA_OFFSET).combine_chunks()
    ascending = pc.all(pc.less(offsets[:-1], offsets[1:])).as_py() is not False
    own = pc.all(pc.equal(rows.column(KAFKA_PARTITION), pa.scalar(partition))).as_py()
    if not ascending or not own or offsets[-1].as_py() >= end:
        raise InputError(f"{lines.origin}: damaged: its offsets are not those of its name and metadata")
    return rows if offsets[0].as_py() >= start else rows.filter(pc.greater_equal(offsets, pa.scalar(start)))


@dataclass(frozen=True)
class Task:
    """What one process does of a commit: about one data file.

    Attributes:
        settings: names and places.
        topic: whose objects they are.
        part: what to read.
        columns: of the events.
        target: the table; None to look for columns alone.
        extend: whether keys that could be columns end it.
    """

    settings: CompactSettings
    topic: str
    part: Sequence[Range]
    columns: Columns
    target: Target | None = None
    extend: bool = False


Run = Callable[[Callable[[Task], Any], Sequence[Task]], Sequence[Any]]
"""Calls a function with each task, wherever it likes and as often as it likes; one result each, in order.

Raises:
    UnavailableError: a task fails each time.
"""


@dataclass(frozen=True)
class SpreadWork:
    """Works in other processes, which share nothing with this one but the bucket.

    Attributes:
        settings: names and places.
        topic: whose objects they are.
        run: runs tasks.
    """

    settings: CompactSettings
    topic: str
    run: Run

    def write(
        self, target: Target, columns: Columns, part: Sequence[Range], *, extend: bool = False
    ) -> Written:
        """See `Work`."""
        results = self._results(write_files, self._tasks(part, columns, target, extend=extend))
        return Written(
            [file for result in results for file in result.files], sum(result.unfit for result in results)
        )

    def found_columns(self, columns: Columns, part: Sequence[Range]) -> dict[str, ColumnType]:
        """See `Work`."""
        wider = dict(columns)
        for found in self._results(find_columns, self._tasks(part, columns)):
            wider = widened(wider, found.items())
        return wider

    def _tasks(
        self, part: Sequence[Range], columns: Columns, target: Target | None = None, *, extend: bool = False
    ) -> list[Task]:
        # They do not connect to Kafka.
        settings = self.settings.model_copy(update={"kafka_sasl_password": None})
        return [
            Task(settings, self.topic, one, columns, target, extend)
            for one in split(part, settings.compact_file_bytes, _TASK_OBJECTS)
        ]

    def _results(self, function: Callable[[Task], Any], tasks: Sequence[Task]) -> Sequence[Any]:
        results = self.run(function, tasks) if tasks else []
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results


def write_files(task: Task) -> Written | Exception:
    """Write the data files of a task; an error that a repetition would not change is its result."""
    target = task.target
    assert target is not None  # noqa: S101 - for mypy
    return _result(task, lambda work: work.write(target, task.columns, task.part, extend=task.extend))


def find_columns(task: Task) -> dict[str, ColumnType] | Exception:
    """The columns that the events of a task need; errors as of `write_files`."""
    return _result(task, lambda work: work.found_columns(task.columns, task.part))


def _result(task: Task, action: Callable[[LocalWork], T]) -> T | Exception:
    try:
        with explained(task.settings, "preparing to call AWS"):
            s3 = aws.client("s3", task.settings, connections=CONNECTIONS + 4)
        with closing(s3):
            return action(LocalWork.of(s3, task.settings, task.topic, lambda: None))
    except NewKeyError as error:
        return error
    except LakefeedError as error:
        if error.retryable:
            raise
        return error
