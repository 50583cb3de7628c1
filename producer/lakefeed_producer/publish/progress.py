"""How far the publishing of a file has come, as values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Progress:
    """A snapshot of the publishing of one file.

    Attributes:
        file: name of the file.
        rows: data rows to publish.
        read: data rows read.
        delivered: events acknowledged.
        rejected: rows rejected.
        found: rows that were not sent because the topic had them already.
        position: every row up to this one is delivered, rejected or found.
        in_flight: events sent and not acknowledged.
        trouble: why nothing has been acknowledged for a while; empty if there is no problem.
        seconds: since the start of sending.
        interrupted: whether it was stopped before the last row.
    """

    file: str
    rows: int
    read: int = 0
    delivered: int = 0
    rejected: int = 0
    found: int = 0
    position: int = 0
    in_flight: int = 0
    trouble: str = ""
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def done(self) -> int:
        """Rows that this run has delivered or rejected."""
        return self.delivered + self.rejected


Observe: TypeAlias = Callable[[Progress], None]
"""Called a few times a second, at the end, and before an error."""
