"""The consumer's sink over a store in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lakefeed_common.health import Health
from lakefeed_common.lake.records import Partition
from lakefeed_consumer.backoff import Backoff
from lakefeed_consumer.dead_letters.limit import DeadLetterLimit
from lakefeed_consumer.metrics import ConsumerMetrics
from lakefeed_consumer.sink.placing import DeadLetterWriter, Placer
from lakefeed_consumer.sink.record_writer import RecordWriter
from lakefeed_consumer.sink.sink import Sink
from lakefeed_consumer.sink.store_retry import StoreRetry
from tests.helpers.memory_store import MemoryStore


class Bench:
    """A sink over a store in memory, and everything it reported."""

    def __init__(self, store: MemoryStore, in_flight: int = 8, dead_letters: int = 1000) -> None:
        self.store = store
        self.metrics = ConsumerMetrics()
        self.health = Health(self.metrics, ["bucket"], stall_seconds=30)
        self.reported: list[tuple[Partition, int]] = []
        retry = StoreRetry(Backoff(0.0001, 0.001), self.metrics, self.health)
        limit = DeadLetterLimit(dead_letters, 0.1, 600)
        placer = Placer(store, retry, self.metrics)
        writer = RecordWriter(placer, "events", DeadLetterWriter(placer, "dead"), limit, self.metrics)
        self.sink = Sink(
            writer,
            in_flight,
            lambda partition, offset: self.reported.append((partition, offset)),
            self.metrics,
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0)

    async def settled(self) -> None:
        await self.until(lambda: self.value("lakefeed_consumer_in_flight_events") == 0)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def outcome(self, outcome: str) -> float | None:
        return self.value("lakefeed_consumer_objects_total", outcome=outcome)
