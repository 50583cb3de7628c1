"""Decides which records of which object come next: each offset once, in order, nothing left out silently."""

from __future__ import annotations

from dataclasses import dataclass

from lakefeed_producer.restore.objects import Found


@dataclass(frozen=True)
class Span:
    """The offsets of a partition that an object holds: from `start` to before `end`; gaps are possible."""

    start: int
    end: int


@dataclass(frozen=True)
class Hole:
    """Offsets that no object holds: from `start` to before `end`."""

    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.start:,} to {self.end - 1:,}"


class Chain:
    """Follows one partition's objects, ascending by start.

    Batches follow one another without a gap. Before and after a one-event object, offsets may be in no
    object: they are those of records that are not events, and of transactions.

    Args:
        position: what is to be restored next: the offset after the last one in the target, or None if the
            target has nothing of this partition.
        chained: whether the position is in a batch or at its end.

    Attributes:
        position: the offset up to which everything is restored; None before the first object.
    """

    def __init__(self, position: int | None = None, *, chained: bool = True) -> None:
        self.position = position
        self._chained = chained
        self._left_out: int | None = None

    def hole_before(self, found: Found) -> Hole | None:
        """What is missing between what was seen so far and an object."""
        if self.position is None or found.offset <= self.position or not (found.batch and self._chained):
            return None
        if self._left_out == self.position or (found.after is not None and found.after <= self.position):
            # It is damaged, or of a day that is not to be restored.
            return None
        return Hole(self.position, found.offset)

    def leave_out(self) -> None:
        """Pass a damaged object, of which the end is not known."""
        self._left_out = self.position

    def overlap(self, span: Span) -> int | None:
        """Up to which offset an object repeats what was restored; None if it does not."""
        if self.position is None or span.start >= self.position:
            return None
        return min(self.position, span.end)

    def advance(self, span: Span, *, batch: bool) -> None:
        """Count an object as restored."""
        if self.position is None or span.end >= self.position:
            self.position, self._chained = span.end, batch
