"""The consumer's sink for batches over a store in memory."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable

from lakefeed_common.health import Health
from lakefeed_common.lake.keys import ObjectKey
from lakefeed_common.lake.lines import from_line
from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.backoff import Backoff
from lakefeed_consumer.dead_letters.limit import DeadLetterLimit
from lakefeed_consumer.metrics import ConsumerMetrics
from lakefeed_consumer.sink.batches.batch_sink import BatchSink, Pace
from lakefeed_consumer.sink.batches.batch_writer import BatchWriter
from lakefeed_consumer.sink.batches.chain import Limits
from lakefeed_consumer.sink.placing import DeadLetterWriter, Placer
from lakefeed_consumer.sink.store_retry import StoreRetry
from tests.helpers.memory_store import MemoryStore

LONG = Pace(Limits(1_000_000, 1_000), linger_seconds=3600, memory_bytes=10_000_000)


class BatchBench:
    """A sink for batches over a store in memory, and everything it reported."""

    def __init__(self, store: MemoryStore, pace: Pace = LONG, dead_letters: int = 1000) -> None:
        self.store = store
        self.metrics = ConsumerMetrics()
        self.health = Health(self.metrics, ["bucket"], stall_seconds=30)
        self.reported: list[tuple[Partition, int]] = []
        placer = Placer(store, StoreRetry(Backoff(0.0001, 0.001), self.metrics, self.health), self.metrics)
        writer = BatchWriter(placer, "batches", DeadLetterWriter(placer, "dead"), "dead")
        limit = DeadLetterLimit(dead_letters, 0.1, 600)
        self.sink = BatchSink(
            writer,
            pace,
            limit,
            lambda partition, offset: self.reported.append((partition, offset)),
            self.metrics,
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that tasks and threads of the sink bring about."""
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.001)

    def batches(self) -> dict[tuple[int, int], list[Record]]:
        """The records of each batch, by partition and start."""
        found = {}
        for key, body in self.store.objects.items():
            parsed = ObjectKey.parse("batches", key)
            if parsed is not None:
                lines = gzip.decompress(body).splitlines()
                found[parsed.partition.number, parsed.offset] = [from_line("t", line) for line in lines]
        return found

    def value(self, name: str, **labels: str) -> float | None:
        """A metric's value."""
        return self.metrics.registry.get_sample_value(name, labels)
