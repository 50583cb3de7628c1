"""Makes an Iceberg table again from the objects, with columns as wide as all values need.

The rows of all objects are written to new files, and one commit puts them in the place of the old ones:
readers see the old table or the new one. If a compaction has committed meanwhile, its events are added
before the next attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyiceberg.manifest import DataFile

from lakefeed_analytics.iceberg.chain import Range, Watermark
from lakefeed_analytics.iceberg.columns import Columns
from lakefeed_analytics.iceberg.compact import ATTEMPTS, Compactor, HoleError, Say
from lakefeed_analytics.iceberg.table import CommitRefusedError, State
from lakefeed_common.errors import InputError, MissingError


@dataclass(frozen=True)
class Change:
    """A column of a rebuilt table whose type is another one; `before` is None for a new one."""

    name: str
    before: str | None
    after: str

    def __str__(self) -> str:
        return f"{self.name}: {self.before or 'new'} → {self.after}"


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild did, or would do."""

    changes: list[Change]
    objects: int
    rows: int = 0
    files: int = 0
    bytes: int = 0


def planned(compactor: Compactor) -> Rebuilt:
    """What a rebuild would change. It reads all objects. Raises as `rebuild` does."""
    state = _loaded(compactor)
    ranges = _ranges(compactor, state, {})
    columns = _columns(compactor, state, ranges, lambda _: None)
    return Rebuilt(_changes(state, columns), _count(ranges))


def rebuild(compactor: Compactor, say: Say) -> Rebuilt:
    """Rebuild a table up to its watermarks.

    Raises:
        MissingError: there is no table.
        HoleError: objects that the table was made of are missing: it keeps its rows.
        InputError: the objects have fewer rows than the table, or are damaged.
        CommitRefusedError: other commits came first, again and again.
    """
    files: list[DataFile] = []
    objects = 0
    first = state = _loaded(compactor)
    built: Mapping[int, Watermark] = {}
    columns: Columns = {}
    for attempt in range(1, ATTEMPTS + 1):
        if not built or state.schema != first.schema:
            # Files have the ids of the columns that the table had.
            first, built, files, objects = state, {}, [], 0
        ranges = _ranges(compactor, state, built)
        if not built:
            say(f"reading the types of {_count(ranges)} objects")
            columns = _columns(compactor, state, ranges, say)
        say(f"writing the rows of {_count(ranges)} objects")
        more = compactor.write(state, ranges, columns).files
        files, objects, built = [*files, *more], objects + _count(ranges), state.watermarks
        rows, before = sum(each.record_count for each in files), compactor.table.rows(state)
        if rows < before:
            raise InputError(
                f"the table {compactor.table.name} has {before} rows, and the objects in the bucket {rows}: "
                "objects were deleted since. The table was left as it is"
            )
        try:
            compactor.table.commit(state, columns, files, state.watermarks, replace=True)
        except CommitRefusedError as error:
            if attempt == ATTEMPTS:
                raise
            say(f"again: {error}")
            state = _loaded(compactor)
        else:
            size = sum(each.file_size_in_bytes for each in files)
            return Rebuilt(_changes(state, columns), objects, rows, len(files), size)
    raise AssertionError("the last attempt returns or raises")


def _loaded(compactor: Compactor) -> State:
    state = compactor.table.load()
    if state is None or not state.watermarks:
        raise MissingError(
            f"there is no table {compactor.table.name} with rows; `lakefeed-analytics compact` creates it"
        )
    return state


def _ranges(compactor: Compactor, state: State, built: Mapping[int, Watermark]) -> list[Range]:
    """What is between what was built and the table's watermarks."""
    offsets = {number: mark.offset for number, mark in state.watermarks.items()}
    ranges = compactor.ranges(built, offsets)
    if holes := [each.hole for each in ranges if each.hole]:
        raise HoleError.of(holes)
    return ranges


def _count(ranges: list[Range]) -> int:
    return sum(len(each.objects) for each in ranges)


def _columns(compactor: Compactor, state: State, ranges: list[Range], say: Say) -> Columns:
    """The table's columns, widened to what all events need."""
    columns: Columns = state.columns
    for each in ranges:
        columns = compactor.work.found_columns(columns, [each])
        say(f"types of partition {each.partition} up to offset {each.end.offset - 1}")
    return columns


def _changes(state: State, columns: Columns) -> list[Change]:
    return [
        Change(name, before, kind)
        for name, kind in columns.items()
        if (before := state.columns.get(name)) is not kind
    ]
