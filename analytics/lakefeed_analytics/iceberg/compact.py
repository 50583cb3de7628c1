"""Brings an Iceberg table up to the consumer group's committed offsets.

The watermark that is read together with the table decides what is read from the bucket; the commit moves it.
Whatever happens in between, the next attempt loads the table and decides again. A killed compaction leaves
files that nothing refers to.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema

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
from lakefeed_analytics.iceberg.source import Source
from lakefeed_analytics.iceberg.table import LakeTable, State
from lakefeed_analytics.iceberg.writing import DataFiles
from lakefeed_common.errors import InputError, UnavailableError

log = logging.getLogger(__name__)

ATTEMPTS = 6
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_COMMIT_OBJECTS = 100_000


class NewFiles(Protocol):
    """Opens the data files of a commit."""

    def __call__(self, schema: Schema) -> DataFiles:
        """For rows of a table with this schema."""
        ...


class HoleError(InputError):
    """Records below the committed offset are in no object; what comes before them was added."""


@dataclass
class Done:
    """What a compaction did."""

    commits: int = 0
    rows: int = 0
    unfit: int = 0
    files: int = 0
    bytes: int = 0
    refused: int = 0
    watermarks: dict[int, int] = field(default_factory=dict)


Say = Callable[[str], None]


@dataclass(frozen=True)
class Compactor:
    """Compacts one topic.

    Attributes:
        table: the topic's.
        source: its objects.
        new_files: opens data files.
        commit_bytes: input after which to commit.
        first_types: types of columns that are known before the table exists.
        sleep: waits between attempts.
    """

    table: LakeTable
    source: Source
    new_files: NewFiles
    commit_bytes: int
    first_types: Callable[[], Columns] = dict
    sleep: Callable[[float], None] = time.sleep

    def planned(self, committed: Mapping[int, int]) -> list[Range]:
        """What a compaction would read. Raises as `run` does."""
        state = self.table.load()
        return self.source.ranges(state.watermarks if state else {}, committed)

    def run(self, committed: Mapping[int, int], say: Say, done: Done) -> None:
        """Commit everything below the committed offsets.

        Args:
            committed: offsets of the consumer group by partition.
            say: takes the progress.
            done: is updated with each commit.

        Raises:
            HoleError: the chain of batches has a hole.
            InputError: an object is damaged, or the table belongs to another topic.
            LakefeedError: AWS refuses, or an error lasts.
        """
        failures = 0
        while True:
            before = done.commits
            try:
                self._advance(committed, say, done)
            except UnavailableError as error:
                failures = failures + 1 if done.commits == before else 1
                done.refused += 1
                if failures == ATTEMPTS:
                    raise
                pause = min(_FIRST_PAUSE * 2**failures, _LONGEST_PAUSE)
                log.warning("Compacting %s again in %g s: %s", self.table.name, pause, error)
                self.sleep(pause)
            else:
                return

    def _advance(self, committed: Mapping[int, int], say: Say, done: Done) -> None:
        state = self.table.load()
        ranges = self.source.ranges(state.watermarks if state else {}, committed)
        for part in split(ranges, self.commit_bytes, _COMMIT_OBJECTS):
            state = self._commit(state, part, done)
            done.watermarks = {number: mark.offset for number, mark in state.watermarks.items()}
            say(f"{done.rows:,} rows in {done.commits} commits")
        if holes := [each.hole for each in ranges if each.hole]:
            raise HoleError("; ".join(holes))

    def _commit(self, state: State | None, part: Sequence[Range], done: Done) -> State:
        if state is None:
            state = self.table.create(self.discovered(self.first_types(), part))
            if state.watermarks:
                raise UnavailableError(f"another compaction has filled {self.table.name} meanwhile")
        columns, files, unfit = self.build(state, part, state.columns)
        after = self.table.commit(state, columns, files, {each.partition: each.end for each in part})
        done.commits += 1
        done.rows += sum(each.record_count for each in files)
        done.bytes += sum(each.file_size_in_bytes for each in files)
        done.files += len(files)
        done.unfit += unfit
        return after

    def build(
        self, state: State, part: Sequence[Range], columns: Columns
    ) -> tuple[Columns, list[DataFile], int]:
        """Write the data files of a commit.

        Returns:
            The table's columns with new ones, the files, and how many rows have values that do not fit.
        """
        try:
            return columns, *self.write(state, part, columns, extend=True)
        except _NewKeyError:
            # Their types follow from all of the commit's events.
            wider = {**self.discovered(columns, part), **columns}
            return wider, *self.write(state, part, wider)

    def write(
        self, state: State, part: Sequence[Range], columns: Columns, *, extend: bool = False
    ) -> tuple[list[DataFile], int]:
        """Write data files with these columns; with `extend`, keys that could be columns end it.

        Returns:
            The files, and how many rows have values that do not fit.
        """
        reader = RowReader(columns)
        unfit = 0
        with self.new_files(self.table.schema_with(state, columns)) as files:
            for each in part:
                position = each.start
                for lines, start, end in self.source.lines(each.objects):
                    if not lines.data:
                        # A batch of dead letters alone.
                        position = end
                        continue
                    rows, known = reader.read(lines)
                    if extend and not known:
                        raise _NewKeyError
                    rows = _between(rows, lines, each.partition, max(start, position), end)
                    position = end
                    unfit += len(rows) - rows.column(UNFIT).null_count
                    files.add(lines.day, rows)
        return files.finished, unfit

    def discovered(self, columns: Columns, part: Sequence[Range]) -> dict[str, ColumnType]:
        """The columns that the events of a commit need, beyond the given ones."""
        wider = dict(columns)
        for each in part:
            for lines, _, _ in self.source.lines(each.objects):
                wider = widened(wider, found_types(lines))
        return wider


class _NewKeyError(Exception):
    """Events have a key that could be a column."""


def _between(rows: pa.Table, lines: Lines, partition: int, start: int, end: int) -> pa.Table:
    """The rows of a partition from an offset on up to another; checks that their offsets ascend."""
    offsets = rows.column(KAFKA_OFFSET).combine_chunks()
    ascending = pc.all(pc.less(offsets[:-1], offsets[1:])).as_py() is not False
    own = pc.all(pc.equal(rows.column(KAFKA_PARTITION), pa.scalar(partition))).as_py()
    if not ascending or not own or offsets[-1].as_py() >= end:
        raise InputError(f"{lines.origin}: damaged: its offsets are not those of its name and metadata")
    return rows if offsets[0].as_py() >= start else rows.filter(pc.greater_equal(offsets, pa.scalar(start)))
