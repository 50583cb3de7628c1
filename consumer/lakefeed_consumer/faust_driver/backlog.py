"""Counts what was fetched and not yet taken by the agent, so that fetching can pause."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Backlog:
    """Records and bytes between the Kafka client and the agent.

    Args:
        max_records, max_bytes: the backlog is full when either is exceeded.
    """

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._records = self._bytes = 0
        self._changed = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether fetching should pause."""
        return self._records > self._max_records or self._bytes > self._max_bytes

    def add(self, records: int, size: int) -> None:
        """Count records that were fetched, and their size in bytes."""
        self._records += records
        self._bytes += size

    def take(self, records: int, size: int) -> None:
        """Count records that the agent has taken."""
        # A rebalance may have cleared them before.
        self._records = max(0, self._records - records)
        self._bytes = max(0, self._bytes - size)
        self._changed.set()

    def clear(self) -> None:
        """Forget everything that was fetched: Faust has dropped it."""
        self._records = self._bytes = 0
        self._changed.set()

    async def wait(self, seconds: float) -> None:
        """Wait until records are taken or dropped, for at most this long."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
