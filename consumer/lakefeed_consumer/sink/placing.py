"""Creates objects with as many attempts as it takes, and finds out what their keys hold already."""

from __future__ import annotations

import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Literal

from lakefeed_common.lake.keys import event_key
from lakefeed_consumer.dead_letters.format import DeadLetter
from lakefeed_consumer.metrics import ConsumerMetrics
from lakefeed_consumer.object_store import NO_METADATA, ObjectExistsError, ObjectStore
from lakefeed_consumer.sink.store_retry import StoreRetry

Placed = Literal["stored", "already_there", "conflict"]


class Placer:
    """Creates objects.

    Args:
        store: where the objects go.
        retry: retries the store's calls.
        metrics: updated with the latency of each put.
    """

    def __init__(self, store: ObjectStore, retry: StoreRetry, metrics: ConsumerMetrics) -> None:
        self._store = store
        self._retry = retry
        self._metrics = metrics

    async def place(self, key: str, body: bytes, metadata: Mapping[str, str] = NO_METADATA) -> Placed:
        """Create an object; `already_there` if its key has this body, `conflict` if it has another."""
        failures = 0
        while not await self._retry.call(self._create, key, body, metadata):
            existing = await self._retry.call(self._store.read, key)
            if existing is not None:
                return "already_there" if existing == body else "conflict"
            # S3 also answers "exists" while another request for the key is in progress.
            failures += 1
            await self._retry.wait(failures)
        return "stored"

    async def create(self, key: str, body: bytes, metadata: Mapping[str, str]) -> dict[str, str] | None:
        """Create an object; if its key has one already, that one's metadata."""
        failures = 0
        while not await self._retry.call(self._create, key, body, metadata):
            existing = await self._retry.call(self._store.metadata, key)
            if existing is not None:
                return existing
            failures += 1
            await self._retry.wait(failures)
        return None

    async def keys_before(self, key: str) -> list[str]:
        """The keys of the same folder and partition that sort before a key, the last one first."""
        folder, _, name = key.rpartition("/")
        return await self._retry.call(self._keys_between, folder, f"{folder}/{name.partition('-')[0]}-", key)

    async def _keys_between(self, folder: str, after: str, before: str) -> list[str]:
        found: list[str] = []
        async for key in self._store.keys(folder, after):
            if key >= before:
                break
            found.append(key)
        return found[::-1]

    async def metadata(self, key: str) -> dict[str, str] | None:
        """The metadata of an object; None if there is no object."""
        return await self._retry.call(self._store.metadata, key)

    async def read(self, key: str) -> bytes | None:
        """The body of an object; None if there is no object."""
        return await self._retry.call(self._store.read, key)

    async def _create(self, key: str, body: bytes, metadata: Mapping[str, str]) -> bool:
        started = time.perf_counter()
        try:
            await self._store.create(key, body, metadata)
        except ObjectExistsError:
            return False
        finally:
            self._metrics.put_seconds.observe(time.perf_counter() - started)
        return True


class DeadLetterWriter:
    """Stores dead letters under a prefix."""

    def __init__(self, placer: Placer, prefix: str) -> None:
        self._placer = placer
        self._prefix = prefix

    async def write(self, dead_letter: DeadLetter) -> None:
        """Return when it is stored."""
        body = dead_letter.body()
        key = event_key(self._prefix, dead_letter.record)
        if await self._placer.place(key, body) == "conflict":
            # A recreated topic can produce two dead letters with the same key.
            await self._placer.place(
                f"{key.removesuffix('.json')}-{sha256(body).hexdigest()[:16]}.json", body
            )
