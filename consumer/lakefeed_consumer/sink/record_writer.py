"""Stores one record: as its event's object, or as a dead letter."""

from __future__ import annotations

import logging
import time
from typing import Literal

from lakefeed_common.lake.keys import event_key
from lakefeed_common.lake.metadata import event_metadata
from lakefeed_common.lake.records import Record
from lakefeed_consumer.dead_letters.format import DeadLetter
from lakefeed_consumer.dead_letters.limit import DeadLetterLimit
from lakefeed_consumer.dead_letters.validation import invalid_reason
from lakefeed_consumer.metrics import ConsumerMetrics
from lakefeed_consumer.sink.placing import DeadLetterWriter, Placed, Placer

log = logging.getLogger(__name__)

Outcome = Placed | Literal["dead_letter"]


class RecordWriter:
    """Stores records, with as many attempts as it takes.

    Args:
        placer: creates the objects.
        prefix: of the keys of events.
        dead_letters: stores the other records.
        limit: counts each event; beyond it, `write` raises.
        metrics: updated with each outcome.
    """

    def __init__(
        self,
        placer: Placer,
        prefix: str,
        dead_letters: DeadLetterWriter,
        limit: DeadLetterLimit,
        metrics: ConsumerMetrics,
    ) -> None:
        self._placer = placer
        self._prefix = prefix
        self._dead_letters = dead_letters
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
            await self._dead_letters.write(DeadLetter(record, reason or "null value"))
            self._count(record, "dead_letter")
            return
        key = event_key(self._prefix, record)
        outcome = await self._placer.place(key, record.value, event_metadata(record))
        if outcome == "conflict":
            log.warning("Conflict: %s has another body; the record is stored as a dead letter", key)
            await self._dead_letters.write(DeadLetter(record, f"conflict: {key} holds another body"))
        self._count(record, outcome)

    def _count(self, record: Record, outcome: Outcome) -> None:
        metrics, now = self._metrics, time.time()
        metrics.objects.values[outcome] += 1
        if outcome == "stored" and record.value is not None:
            metrics.object_bytes.value += len(record.value)
        if record.timestamp_ms >= 0:
            metrics.event_age_seconds.observe(max(0.0, now - record.timestamp_ms / 1000))
        metrics.last_stored.value = now
