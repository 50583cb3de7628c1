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

from lakefeed_analytics.iceberg.accept import Accept
from lakefeed_analytics.iceberg.chain import Range, Watermark, split
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


_HOLES = (
    "Nothing of them is in the table. If objects were deleted, restore them, for example from an earlier "
    "version in the bucket, and run this again. If they are lost, or the group's offsets were reset forward, "
    "--accept holes continues behind them"
)


class HoleError(InputError):
    """Committed records cannot be added; what comes before them was added."""

    @classmethod
    def of(cls, holes: Sequence[str]) -> HoleError:
        """For holes in the chain of batches, with what to do."""
        return cls(f"{'; '.join(holes)}. {_HOLES}")


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
        accept: what does not end a compaction.
        sleep: waits between attempts.
    """

    table: LakeTable
    source: Source
    work: Work
    commit_bytes: int
    first_types: Callable[[], Columns] = dict
    accept: frozenset[Accept] = frozenset()
    sleep: Callable[[float], None] = time.sleep

    def watermarks(self) -> Mapping[int, Watermark]:
        """The table's watermarks; empty if there is no table."""
        state = self.table.load()
        return state.watermarks if state else {}

    def planned(self, committed: Mapping[int, int]) -> list[Range]:
        """What a compaction would read. Raises what `run` raises before its first commit."""
        state = self._loaded()
        if state is None:
            self.table.check_database()
        return self.ranges(state.watermarks if state else {}, committed)

    def ranges(self, watermarks: Mapping[int, Watermark], committed: Mapping[int, int]) -> list[Range]:
        """What to read between watermarks and offsets."""
        return self.source.ranges(watermarks, committed, accept_holes=Accept.HOLES in self.accept)

    def check(
        self, ranges: Sequence[Range], committed: Mapping[int, int], before: Mapping[int, Watermark]
    ) -> None:
        """Check that nothing is missing in what is read.

        Args:
            ranges: what is read.
            committed: offsets of the consumer group by partition.
            before: the table's watermarks before these offsets were read; what another compaction has added
                since may be behind them.

        Raises:
            HoleError: the chain of batches has a hole, or the group is behind the table.
        """
        if holes := [each.hole for each in ranges if each.hole]:
            raise HoleError.of(holes)
        if behind := [
            f"of partition {number} up to {mark.offset}, and the group has committed {committed[number]}"
            for number, mark in sorted(before.items())
            if committed.get(number, mark.offset) < mark.offset
        ]:
            raise HoleError(
                f"the table {self.table.name} has the offsets {'; '.join(behind)}. If the group's offsets "
                "were reset back, this passes when its consumers have caught up. If the topic was recreated, "
                'its new events need a table of their own: see "A recreated topic" in docs/iceberg.md'
            )

    def run(
        self,
        committed: Mapping[int, int],
        say: Say,
        done: Done,
        before: Mapping[int, Watermark],
    ) -> None:
        """Commit everything below the committed offsets.

        Args:
            committed: offsets of the consumer group by partition.
            say: takes the progress.
            done: is updated with each commit.
            before: see `check`.

        Raises:
            HoleError: see `check`.
            MissingError: the topic has no objects.
            InputError: an object is damaged, the table is another topic's, or its objects are elsewhere.
            LakefeedError: AWS refuses, or an error lasts.
        """
        failures = 0
        while True:
            commits = done.commits
            try:
                self._advance(committed, say, done, before)
            except UnavailableError as error:
                failures = failures + 1 if done.commits == commits else 1
                done.refused += 1
                if failures == ATTEMPTS:
                    raise
                pause = min(_FIRST_PAUSE * 2**failures, _LONGEST_PAUSE)
                log.warning("Compacting %s again in %g s: %s", self.table.name, pause, error)
                self.sleep(pause)
            else:
                return

    def _loaded(self) -> State | None:
        """The table, if it was made of the objects that the settings name."""
        state = self.table.load()
        if state is not None and self._is_elsewhere(state) and Accept.SOURCE not in self.accept:
            raise InputError(
                f"the table {self.table.name} was made of the objects in {' and '.join(state.sources)}, and "
                f"the settings name {' and '.join(self.table.sources)}. Check LAKEFEED_BUCKET, "
                "LAKEFEED_EVENTS_PREFIX and LAKEFEED_BATCHES_PREFIX. If all objects were moved there: "
                "`lakefeed-analytics rebuild`. If only new ones are there: `lakefeed-analytics compact "
                "--accept source`"
            )
        return state

    def _is_elsewhere(self, state: State) -> bool:
        return bool(state.sources) and list(state.sources) != self.table.sources

    def _advance(
        self, committed: Mapping[int, int], say: Say, done: Done, before: Mapping[int, Watermark]
    ) -> None:
        state = self._loaded()
        if state is not None and self._is_elsewhere(state):
            state = self.table.commit(state, state.columns, [], {})
        ranges = self.ranges(state.watermarks if state else {}, committed)
        for hole in (hole for each in ranges for hole in each.accepted):
            say(f"accepted: {hole}")
        for part in split(ranges, self.commit_bytes, _COMMIT_OBJECTS):
            state = self._commit(state, part, done)
            done.watermarks = {number: mark.offset for number, mark in state.watermarks.items()}
            say(f"{done.rows:,} rows in {done.commits} commits")
        self.check(ranges, committed, before)

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
