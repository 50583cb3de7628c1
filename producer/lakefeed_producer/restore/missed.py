"""Finds records that a resumed restore would pass: the target has later ones, and not these.

A restore sends the records of a partition in the order of their offsets, and resumes behind the last one. If
an earlier run had fewer objects, because it was given one layout of two or other days, what it did not have
cannot be added in order any more.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain, pairwise

from lakefeed_common.errors import InputError
from lakefeed_common.lake.metadata import BatchMetadata
from lakefeed_common.lake.records import Partition
from lakefeed_producer.restore.bodies import Batch, Event
from lakefeed_producer.restore.objects import Found
from lakefeed_producer.restore.prefetch import prefetched
from lakefeed_producer.restore.reading import Reading
from lakefeed_producer.restore.store import Fetched


class Restored:
    """The offsets of one partition of the origin that the target has, as runs, in a few bytes each."""

    def __init__(self) -> None:
        self._starts, self._ends, self._before = array("q"), array("q"), array("q")

    def add(self, start: int, count: int) -> None:
        """Add a run; what is not behind the last one is there already."""
        end, known = start + count, self._ends[-1] if self._ends else 0
        start = max(start, known)
        if start < end:
            self._before.append(self._below(known))
            self._starts.append(start)
            self._ends.append(end)

    def between(self, begin: int, end: int) -> int:
        """How many offsets it has from `begin` to before `end`."""
        return self._below(end) - self._below(begin)

    def _below(self, offset: int) -> int:
        at = bisect_right(self._starts, offset) - 1
        if at < 0:
            return 0
        return self._before[at] + min(self._ends[at], offset) - self._starts[at]


def check_missed(reading: Reading, positions: Mapping[int, int], restored: Mapping[int, Restored]) -> None:
    """Check that the target has what is before the positions at which a restore resumes.

    Args:
        reading: what is read; its findings count damaged objects that an earlier run has left out.
        positions: by partition.
        restored: what the target has of them.

    Raises:
        InputError: it does not have all records of an object.
    """
    for number, position in positions.items():
        there = restored.get(number) or Restored()
        look = partial(_look, reading, number)
        doubtful = _doubtful(reading, number, position, there)
        for found, fetched in prefetched(doubtful, look, reading.pool):
            key = reading.key(number, found)
            try:
                if found.batch:
                    metadata = BatchMetadata.parse(fetched.metadata)
                    # Otherwise it is read from the position on.
                    ended = metadata.end <= position
                    if not ended or there.between(found.offset, metadata.end) >= metadata.records:
                        continue
                    Batch.of(found, reading.fetch(number, found))
                else:
                    Event.of(Partition(reading.inventory.topic, number), found, fetched)
            except InputError as error:
                reading.findings.damage(f"{key}: {error}")
                continue
            raise InputError(
                f"{key} has records that the target does not have, although it has later ones up to offset "
                f"{position - 1:,} of partition {number}: an earlier restore was given fewer objects. "
                "Restore everything into another topic with one command, with the addresses of both "
                "layouts if there are two"
            )


def _doubtful(reading: Reading, number: int, position: int, there: Restored) -> Iterator[Found]:
    """The objects before a position that have offsets which the target does not have."""
    objects = reading.inventory.objects
    batches = (found for found in objects(number) if found.selected and found.batch)
    for found, following in pairwise(chain(batches, [None])):
        if found is None or found.offset >= position:
            break
        # What follows the start of the next batch is in that one, too.
        end = position if following is None else min(following.offset, position)
        if there.between(found.offset, end) < end - found.offset:
            yield found
    for found in objects(number):
        if found.offset >= position:
            return
        if found.selected and not found.batch and not there.between(found.offset, found.offset + 1):
            yield found


def _look(reading: Reading, number: int, found: Found) -> Fetched:
    return reading.head(number, found) if found.batch else reading.fetch(number, found)
