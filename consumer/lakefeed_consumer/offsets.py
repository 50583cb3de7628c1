"""Ordered acknowledgement: up to which offset everything of a partition is stored."""

from __future__ import annotations

from collections import deque


class OffsetRun:
    """The offsets of one partition during one assignment, taken in order, stored in any order.

    Offsets may have gaps (compaction, transactions). A run that has ended reports nothing
    more: what its puts still bring about belongs to whoever has the partition by then.

    Attributes:
        last: the offset taken last, -1 before the first.
        ended: whether the partition is no longer ours, or is read anew.
    """

    __slots__ = ("_early", "_waiting", "ended", "last")

    def __init__(self) -> None:
        self.last = -1
        self.ended = False
        self._waiting: deque[int] = deque()
        # Stored while an offset before it was not.
        self._early: set[int] = set()

    @property
    def unreported(self) -> int:
        """How many offsets are taken and not reported yet."""
        return len(self._waiting)

    def take(self, offset: int) -> None:
        """Note that an offset is to be stored.

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
            The highest offset up to which everything taken is stored, if this moved it.
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
        """The partition is no longer ours, or is read again from an earlier offset."""
        self.ended = True
        self._waiting.clear()
        self._early.clear()
