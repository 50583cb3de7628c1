"""Ordered acknowledgement: up to which offset everything of a partition is stored."""

from __future__ import annotations

from collections import deque


class OffsetRun:
    """The offsets of one partition during one assignment, taken in order, stored in any order.

    Offsets may have gaps (compaction, transactions). A run that has ended reports nothing
    more: what its puts still bring about belongs to whoever has the partition by then.
    """

    def __init__(self) -> None:
        self._waiting: deque[int] = deque()
        self._stored: set[int] = set()
        self._last = -1
        self._ended = False

    @property
    def last(self) -> int:
        """The offset taken last, -1 before the first."""
        return self._last

    @property
    def ended(self) -> bool:
        """Whether the partition is no longer ours, or is read anew."""
        return self._ended

    def take(self, offset: int) -> None:
        """Note that an offset is being stored.

        Raises:
            ValueError: the offset is not greater than the last one.
        """
        if offset <= self._last:
            raise ValueError(f"offset {offset} after {self._last}")
        self._last = offset
        self._waiting.append(offset)

    def store(self, offset: int) -> int | None:
        """Note that an offset is stored.

        Returns:
            The highest offset up to which everything taken is stored, if this moved it.
        """
        if self._ended:
            return None
        self._stored.add(offset)
        reached = None
        while self._waiting and self._waiting[0] in self._stored:
            reached = self._waiting.popleft()
            self._stored.discard(reached)
        return reached

    def end(self) -> None:
        """The partition is no longer ours, or is read again from an earlier offset."""
        self._ended = True
        self._waiting.clear()
        self._stored.clear()
