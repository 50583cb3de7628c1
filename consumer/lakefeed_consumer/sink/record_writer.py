"""Stores one record: as its event's object, or as a dead letter."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from lakefeed_common.lake.keys import event_key
from lakefeed_common.lake.metadata import event_metadata
from lakefeed_common.lake.records import Record
from lakefeed_consumer.dead_letters.format import DeadLetter
from lakefeed_consumer.dead_letters.limit import DeadLetterLimit
from lakefeed_consumer.dead_letters.validation import invalid_reason
from lakefeed_consumer.metrics import ConsumerMetrics
from lakefeed_consumer.object_store import NO_METADATA, ObjectExistsError, ObjectStore
from lakefeed_consumer.sink.store_retry import StoreRetry

log = logging.getLogger(__name__)

Placed = Literal["stored", "already_there", "conflict"]
Outcome = Placed | Literal["dead_letter"]


@dataclass(frozen=True, slots=True)
class Prefixes:
    """First parts of the keys of objects."""

    events: str
    dead_letters: str


class RecordWriter:
    """Stores records, with as many attempts as it takes.

    Args:
        store: where the objects go.
        prefixes: of their keys.
        retry: retries the store's calls.
        limit: counts each event; beyond it, `write` raises.
        metrics: updated with each outcome.
    """

    def __init__(
        self,
        store: ObjectStore,
        prefixes: Prefixes,
        retry: StoreRetry,
        limit: DeadLetterLimit,
        metrics: ConsumerMetrics,
    ) -> None:
        self._store = store
        self._prefixes = prefixes
        self._retry = retry
        self._limit = limit
        self._metrics = metrics

    async def write(self, record: Record) -> None:
        """Return when the record is stored, as an object or a dead letter.

        Raises:
            DeadLetterLimitError: it is a dead letter, and there are too many.
        """
        reason = invalid_reason(record.value)
        self._limit.count(record, reason)
        if record.value is None or reason is not None:
            await self._dead_letter(record, reason or "null value")
            self._count(record, "dead_letter")
            return
        key = event_key(self._prefixes.events, record)
        outcome = await self._place(key, record.value, event_metadata(record))
        if outcome == "conflict":
            log.warning("Conflict: %s has another body; the record is stored as a dead letter", key)
            await self._dead_letter(record, f"conflict: {key} holds another body")
        self._count(record, outcome)

    async def _dead_letter(self, record: Record, reason: str) -> None:
        body = DeadLetter(record, reason).body()
        key = event_key(self._prefixes.dead_letters, record)
        if await self._place(key, body) == "conflict":
            # A recreated topic can produce two dead letters with the same key.
            await self._place(f"{key.removesuffix('.json')}-{sha256(body).hexdigest()[:16]}.json", body)

    async def _place(self, key: str, body: bytes, metadata: Mapping[str, str] = NO_METADATA) -> Placed:
        """Create an object, or find out what its key holds already."""
        failures = 0
        while not await self._retry.call(self._create, key, body, metadata):
            existing = await self._retry.call(self._store.read, key)
            if existing is not None:
                return "already_there" if existing == body else "conflict"
            # S3 also answers "exists" while another request for the key is in progress.
            failures += 1
            await self._retry.wait(failures)
        return "stored"

    async def _create(self, key: str, body: bytes, metadata: Mapping[str, str]) -> bool:
        started = time.perf_counter()
        try:
            await self._store.create(key, body, metadata)
        except ObjectExistsError:
            return False
        finally:
            self._metrics.put_seconds.observe(time.perf_counter() - started)
        return True

    def _count(self, record: Record, outcome: Outcome) -> None:
        metrics, now = self._metrics, time.time()
        metrics.objects.values[outcome] += 1
        if outcome == "stored" and record.value is not None:
            metrics.object_bytes.value += len(record.value)
        if record.timestamp_ms >= 0:
            metrics.event_age_seconds.observe(max(0.0, now - record.timestamp_ms / 1000))
        metrics.last_stored.value = now
