"""How much of what was fetched the agent has not taken yet, so that fetching can wait for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Backlog:
    """Counts records and bytes between the broker's client and the agent.

    Args:
        most_records, most_bytes: with more than either of them the backlog is full.
    """

    def __init__(self, most_records: int, most_bytes: int) -> None:
        self._most_records = most_records
        self._most_bytes = most_bytes
        self._records = self._bytes = 0
        self._changed = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether nothing more should be fetched."""
        return self._records > self._most_records or self._bytes > self._most_bytes

    def add(self, records: int, size: int) -> None:
        """Take note of records that were fetched, and of their size in bytes."""
        self._records += records
        self._bytes += size

    def take(self, records: int, size: int) -> None:
        """Take note of records that the agent has taken."""
        # A rebalance may have cleared them before.
        self._records = max(0, self._records - records)
        self._bytes = max(0, self._bytes - size)
        self._changed.set()

    def clear(self) -> None:
        """Take note that whatever was fetched is thrown away."""
        self._records = self._bytes = 0
        self._changed.set()

    async def wait(self, seconds: float) -> None:
        """Wait until records are taken or thrown away, for so long at the most."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
