"""Finds out where a restore has to resume: by the last record of each partition of the target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from lakefeed_common.errors import RefusedError
from lakefeed_producer.restore.records import ORIGIN_HEADER

Beat = Callable[[], None]
# How many of a partition's last offsets are read at first: the last ones may be markers of transactions.
_FIRST_LOOK = 16


class Origin(NamedTuple):
    """Where a record was: the header `lakefeed-origin`."""

    topic: str
    partition: int
    offset: int

    @classmethod
    def of(cls, headers: Sequence[tuple[str, Any]] | None) -> Origin | None:
        """The origin in a record's headers: the last one, as an earlier restore may have added its own."""
        values = [value for name, value in headers or () if name == ORIGIN_HEADER]
        try:
            topic, partition, offset = values[-1].decode().split("/")
            return cls(topic, int(partition), int(offset))
        except (AttributeError, IndexError, ValueError):
            return None


class Placed(NamedTuple):
    """A record of the target: its partition and offset there, and where it was."""

    partition: int
    offset: int
    origin: Origin | None


class Log(Protocol):
    """The target topic. Lists are indexed by partition; see `TopicLog` for what it raises."""

    def bounds(self) -> tuple[list[int], list[int]]:
        """The first offsets, and the end offsets."""

    def placed(self, begin: Sequence[int], end: Sequence[int], beat: Beat) -> Iterator[Placed]:
        """Yield the records from `begin` to before `end`, each partition in order; calls `beat` often."""


@dataclass(frozen=True)
class Tail:
    """Where a restore resumes.

    Attributes:
        first: the first offset of each partition of the target.
        ends: its end offset.
        positions: which offset of the origin's partition comes next; only of partitions with records.
    """

    first: Sequence[int]
    ends: Sequence[int]
    positions: Mapping[int, int]


def read_tail(log: Log, target: str, topic: str, beat: Beat = lambda: None) -> Tail:
    """Find the last record of each partition.

    Args:
        log: the target.
        target: its name, for messages.
        topic: the topic that is being restored.
        beat: called often; may raise to stop.

    Raises:
        RefusedError: the target has records of something else, or its records were deleted.
    """
    first, ends = log.bounds()
    last: dict[int, Placed] = {}
    depth = _FIRST_LOOK
    begin = list(ends)
    while True:
        until, begin = begin, [max(low, high - depth) for low, high in zip(first, ends, strict=True)]
        until = [begin[at] if at in last else until[at] for at in range(len(ends))]
        for placed in log.placed(begin, until, beat):
            last[placed.partition] = placed
        if all(at in last or begin[at] == first[at] for at in range(len(ends))):
            break
        depth *= 16
    for partition, (low, high) in enumerate(zip(first, ends, strict=True)):
        if partition not in last and 0 < low <= high:
            raise RefusedError(
                f"partition {partition} of the topic {target} has had records, and they were deleted: how "
                "far it was restored is not known. Restore into another topic"
            )
    return Tail(first, ends, {at: _position(placed, target, topic) for at, placed in last.items()})


def _position(placed: Placed, target: str, topic: str) -> int:
    origin = placed.origin
    if origin is None or (origin.topic, origin.partition) != (topic, placed.partition):
        whose = f"was restored from {origin.topic}" if origin else f"has no header {ORIGIN_HEADER}"
        raise RefusedError(
            f"the topic {target} has records that are not of this restore: the one at offset "
            f"{placed.offset:,} of partition {placed.partition} {whose}. Restore into a topic that nothing "
            "else writes to"
        )
    return origin.offset + 1
