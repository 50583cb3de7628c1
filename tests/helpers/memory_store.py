"""A bucket in memory, with faults to order. It passes the same contract tests as the real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

from lakefeed_consumer.object_store import (
    NO_METADATA,
    ObjectExistsError,
    StoreRefusedError,
    StoreUnavailableError,
)

Fault = StoreUnavailableError | StoreRefusedError


class MemoryStore:
    """Keeps objects in a dict; `fault(key)` may return an error to raise instead of working."""

    def __init__(self, fault: Callable[[str], Fault | None] = lambda _: None) -> None:
        self.objects: dict[str, bytes] = {}
        self.described: dict[str, dict[str, str]] = {}
        self.fault = fault
        self.hold: asyncio.Event | None = None
        self.most_at_once = 0
        self._at_once = 0

    async def create(self, key: str, body: bytes, metadata: Mapping[str, str] = NO_METADATA) -> None:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await (self.hold.wait() if self.hold else asyncio.sleep(0))
            self._raise_fault(key)
            if key in self.objects:
                raise ObjectExistsError(key)
            self.objects[key] = body
            self.described[key] = dict(metadata)
        finally:
            self._at_once -= 1

    async def read(self, key: str) -> bytes | None:
        self._raise_fault(key)
        return self.objects.get(key)

    async def metadata(self, key: str) -> dict[str, str] | None:
        self._raise_fault(key)
        return self.described.get(key, {}) if key in self.objects else None

    async def keys(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        self._raise_fault(prefix)
        for key in sorted(self.objects):
            if key.startswith(f"{prefix}/") and key > after:
                yield key

    async def check(self) -> None:
        self._raise_fault("")

    async def close(self) -> None:
        pass

    def _raise_fault(self, key: str) -> None:
        fault = self.fault(key)
        if fault is not None:
            raise fault
