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

from lakefeed_analytics.iceberg.chain import Range, split
from lakefeed_analytics.iceberg.columns import Columns
from lakefeed_analytics.iceberg.source import Source
from lakefeed_analytics.iceberg.table import LakeTable, State
from lakefeed_analytics.iceberg.work import NewKeyError, Work, Written
from lakefeed_analytics.iceberg.writing import Target
from lakefeed_common.errors import InputError, UnavailableError

log = logging.getLogger(__name__)

ATTEMPTS = 6
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_COMMIT_OBJECTS = 100_000


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
        work: reads them and writes data files.
        commit_bytes: input after which to commit.
        first_types: types of columns that are known before the table exists.
        sleep: waits between attempts.
    """

    table: LakeTable
    source: Source
    work: Work
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
            state = self.table.create(self.work.found_columns(self.first_types(), part))
            if state.watermarks:
                raise UnavailableError(f"another compaction has filled {self.table.name} meanwhile")
        columns, written = self.build(state, part)
        files = written.files
        after = self.table.commit(state, columns, files, {each.partition: each.end for each in part})
        done.commits += 1
        done.rows += sum(each.record_count for each in files)
        done.bytes += sum(each.file_size_in_bytes for each in files)
        done.files += len(files)
        done.unfit += written.unfit
        return after

    def build(self, state: State, part: Sequence[Range]) -> tuple[Columns, Written]:
        """Write the data files of a commit, and return the table's columns with new ones."""
        columns: Columns = state.columns
        try:
            return columns, self.write(state, part, columns, extend=True)
        except NewKeyError:
            # Their types follow from all of the commit's events.
            wider = {**self.work.found_columns(columns, part), **columns}
            return wider, self.write(state, part, wider)

    def write(
        self, state: State, part: Sequence[Range], columns: Columns, *, extend: bool = False
    ) -> Written:
        """Write data files with these columns; with `extend`, keys that could be columns end it.

        Raises:
            NewKeyError: events have such a key.
        """
        target = Target(state.location, self.table.schema_with(state, columns))
        return self.work.write(target, columns, part, extend=extend)
