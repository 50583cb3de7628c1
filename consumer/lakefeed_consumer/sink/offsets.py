"""Ordered acknowledgement: up to which offset every record of a partition is stored."""

from __future__ import annotations

from collections import deque


class OffsetRun:
    """The offsets of one partition during one assignment, taken in order, stored in any order.

    Offsets may have gaps (compaction, transactions). A run that has ended reports nothing more: the partition
    may be assigned to another member by then.

    Attributes:
        last: the last offset taken; -1 before the first.
        ended: whether the partition was revoked, or is read again from an earlier offset.
    """

    __slots__ = ("_early", "_waiting", "ended", "last")

    def __init__(self) -> None:
        self.last = -1
        self.ended = False
        self._waiting: deque[int] = deque()
        # Stored before an earlier offset.
        self._early: set[int] = set()

    @property
    def unreported(self) -> int:
        """How many offsets are taken and not yet reported."""
        return len(self._waiting)

    def take(self, offset: int) -> None:
        """Note that an offset is being stored.

        Raises:
            ValueError: the offset is not greater than the last one.
        """
        if offset <= self.last:
            raise ValueError(f"offset {offset} after {self.last}")
        self.last = offset
        self._waiting.append(offset)

    def store(self, offset: int) -> int | None:
        """Note that an offset is stored.

        Returns:
            The highest offset up to which every record taken is stored, if it has changed.
        """
        if self.ended:
            return None
        waiting, early = self._waiting, self._early
        if offset != waiting[0]:
            early.add(offset)
            return None
        reached = waiting.popleft()
        while early and waiting[0] in early:
            reached = waiting.popleft()
            early.remove(reached)
        return reached

    def end(self) -> None:
        """End the run: the partition was revoked, or is read again from an earlier offset."""
        self.ended = True
        self._waiting.clear()
        self._early.clear()
