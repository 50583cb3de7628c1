"""Decides which records of which object come next: each offset once, in order, nothing left out silently."""

from __future__ import annotations

from dataclasses import dataclass


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

    Args:
        position: what is to be restored next: the offset after the last one in the target, or None if the
            target has nothing of this partition.

    Attributes:
        position: the offset up to which everything is restored; None before the first object.
    """

    def __init__(self, position: int | None = None) -> None:
        self.position = position

    def hole_before(self, span: Span) -> Hole | None:
        """What is missing between what was seen so far and an object."""
        if self.position is None or span.start <= self.position:
            return None
        return Hole(self.position, span.start)

    def overlap(self, span: Span) -> int | None:
        """Up to which offset an object repeats what was restored; None if it does not."""
        if self.position is None or span.start >= self.position:
            return None
        return min(self.position, span.end)

    def advance(self, span: Span) -> None:
        """Count an object as restored."""
        self.position = max(self.position or 0, span.end)
