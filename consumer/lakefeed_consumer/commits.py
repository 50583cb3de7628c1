"""What of each partition is handed out, stored and committed, and which offsets to commit next."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

PartitionKey = tuple[str, int]
"""Topic and number; the named tuples of Faust, aiokafka and the sink are all such pairs and equal to it."""


class Commits:
    """The offsets of one group member's partitions.

    An offset to commit is, as everywhere in Kafka, the one that is read next. Offsets may go down: then the
    log itself went back, and the lower one is committed, too.

    Attributes:
        failing: whether the last commit failed.
        ended: whether nothing is committed any more.
    """

    def __init__(self) -> None:
        # The last offset given to the agent; what follows the last one stored; what the group has committed.
        self._handed: dict[PartitionKey, int] = {}
        self._stored: dict[PartitionKey, int] = {}
        self._committed: dict[PartitionKey, int] = {}
        self.failing = False
        self.ended = False

    @property
    def any_stored(self) -> bool:
        """Whether any partition has stored records, committed or not."""
        return bool(self._stored)

    def hand(self, partition: PartitionKey, offset: int) -> None:
        """Take note that records up to this offset were given to the agent."""
        self._handed[partition] = offset

    def store(self, partition: PartitionKey, offset: int) -> None:
        """Take note that everything of a partition up to this offset is stored."""
        self._stored[partition] = offset + 1

    def resume(self, found: Mapping[PartitionKey, int | None]) -> None:
        """Take note of what the group has committed before; None where it has not."""
        self._committed.update(
            {partition: offset for partition, offset in found.items() if offset is not None}
        )

    def forget(self, partitions: Iterable[PartitionKey]) -> None:
        """Commit nothing more of partitions that were revoked."""
        for partition in partitions:
            for known in (self._handed, self._stored, self._committed):
                known.pop(partition, None)

    def committed(self, partition: PartitionKey) -> int | None:
        """Offset that is read next after a restart, as far as this member knows; None before a commit."""
        return self._committed.get(partition)

    def undelivered(self, partition: PartitionKey) -> bool:
        """Whether the agent was given a record of this partition that is not stored yet."""
        return partition in self._handed and self._handed[partition] >= self._stored.get(partition, 0)

    def due(self, assigned: Collection[PartitionKey]) -> dict[PartitionKey, int]:
        """Offsets to commit now: stored, not committed yet, and of partitions that are assigned."""
        if self.ended:
            return {}
        return {
            partition: offset
            for partition, offset in self._stored.items()
            if partition in assigned and offset != self._committed.get(partition)
        }

    def committed_before(self, partitions: Iterable[PartitionKey]) -> set[PartitionKey]:
        """Those of some partitions for which the broker must still have a commit of the group's."""
        return {partition for partition in partitions if partition in self._committed}

    def succeed(self, offsets: Mapping[PartitionKey, int]) -> None:
        """Take note that offsets which were due are committed."""
        self.failing = False
        # Some may have been revoked while the broker was asked.
        self._committed.update({tp: offset for tp, offset in offsets.items() if tp in self._stored})

    def fail(self) -> bool:
        """Take note that a commit failed; what was due stays so.

        Returns:
            Whether it is the first one since a commit that did not fail.
        """
        first, self.failing = not self.failing, True
        return first

    def end(self) -> None:
        """Commit nothing more: the offsets mean other records than those stored."""
        self.ended = True
