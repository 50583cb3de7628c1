"""Commit bookkeeping: what of each partition is delivered, stored and committed, and what to commit next."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

PartitionKey = tuple[str, int]
"""Topic and number; the named tuples of Faust, aiokafka and the sink are all such pairs and equal to it."""


class Commits:
    """The offsets of one group member's partitions.

    An offset to commit is, as everywhere in Kafka, the one to read next. Offsets may decrease: then the
    log itself was truncated, and the lower offset is committed as well.

    Attributes:
        failing: whether the last commit failed.
        ended: whether commits have ended for good.
    """

    def __init__(self) -> None:
        # The last offset delivered to the agent; the one after the last stored; the group's committed offset.
        self._delivered: dict[PartitionKey, int] = {}
        self._stored: dict[PartitionKey, int] = {}
        self._committed: dict[PartitionKey, int] = {}
        self.failing = False
        self.ended = False

    @property
    def any_stored(self) -> bool:
        """Whether any partition has stored records, committed or not."""
        return bool(self._stored)

    def deliver(self, partition: PartitionKey, offset: int) -> None:
        """Note that records up to this offset were delivered to the agent."""
        self._delivered[partition] = offset

    def store(self, partition: PartitionKey, offset: int) -> None:
        """Note that every record of a partition up to this offset is stored."""
        self._stored[partition] = offset + 1

    def resume(self, committed: Mapping[PartitionKey, int | None]) -> None:
        """Note what the group had committed before this member joined; None where there is no commit."""
        self._committed.update(
            {partition: offset for partition, offset in committed.items() if offset is not None}
        )

    def forget(self, partitions: Iterable[PartitionKey]) -> None:
        """Drop everything about partitions that were revoked."""
        for partition in partitions:
            for offsets in (self._delivered, self._stored, self._committed):
                offsets.pop(partition, None)

    def committed(self, partition: PartitionKey) -> int | None:
        """The offset to read next after a restart, as far as this member knows; None before a commit."""
        return self._committed.get(partition)

    def has_unstored(self, partition: PartitionKey) -> bool:
        """Whether the agent has received a record of this partition that is not stored yet."""
        return partition in self._delivered and self._delivered[partition] >= self._stored.get(partition, 0)

    def due(self, assigned: Collection[PartitionKey]) -> dict[PartitionKey, int]:
        """Offsets to commit now: stored, not committed yet, and of assigned partitions."""
        if self.ended:
            return {}
        return {
            partition: offset
            for partition, offset in self._stored.items()
            if partition in assigned and offset != self._committed.get(partition)
        }

    def committed_before(self, partitions: Iterable[PartitionKey]) -> set[PartitionKey]:
        """Those of these partitions for which the broker must still have a committed offset."""
        return {partition for partition in partitions if partition in self._committed}

    def succeed(self, offsets: Mapping[PartitionKey, int]) -> None:
        """Note that offsets which were due are committed."""
        self.failing = False
        # Some may have been revoked while the request was under way.
        self._committed.update({tp: offset for tp, offset in offsets.items() if tp in self._stored})

    def fail(self) -> bool:
        """Note that a commit failed; what was due stays due.

        Returns:
            Whether this is the first failure since the last successful commit.
        """
        first, self.failing = not self.failing, True
        return first

    def end(self) -> None:
        """Commit nothing from now on: the offsets refer to other records than those stored."""
        self.ended = True
