"""The consumer's core for batch objects: see `sink.Sink`, whose interface it has."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.dead_letters.limit import DeadLetterLimit
from lakefeed_consumer.metrics import ConsumerMetrics
from lakefeed_consumer.sink.batches.batch import Batch
from lakefeed_consumer.sink.batches.batch_writer import BatchWriter, Holder
from lakefeed_consumer.sink.batches.chain import Answer, Chain, Limits
from lakefeed_consumer.sink.sink import StoredUpTo

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """When batches end.

    Attributes:
        limits: bytes and records of one batch.
        linger_seconds: from a batch's first record.
        memory_bytes: of all partitions; beyond it, the largest batch ends, and no more records are taken.
    """

    limits: Limits
    linger_seconds: float
    memory_bytes: int


class BatchSink:
    """Stores records as batches: one at a time for each partition, those of several partitions in parallel.

    Args:
        writer: stores a batch.
        pace: when batches end.
        limit: counts each event; beyond it, the sink fails.
        on_stored: called with a partition and an offset when every record of the partition up to this offset
            is stored: by this sink, or by another worker whose batch was adopted.
        metrics: updated with events and batches.
    """

    def __init__(
        self,
        writer: BatchWriter,
        pace: Pace,
        limit: DeadLetterLimit,
        on_stored: StoredUpTo,
        metrics: ConsumerMetrics,
    ) -> None:
        self._writer = writer
        self._pace = pace
        self._limit = limit
        self._on_stored = on_stored
        self._metrics = metrics
        self._chains: dict[Partition, Chain] = {}
        # One for each chain that has a batch to put.
        self._tasks: dict[Chain, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._draining = False
        self._loop = asyncio.get_running_loop()
        self._failure: asyncio.Future[None] = self._loop.create_future()
        metrics.in_flight.set_function(lambda: self.in_flight)

    # ---- records ------------------------------------------------------------------------------------

    async def submit(self, records: Iterable[Record]) -> None:
        """Take records of assigned partitions, in offset order for each; returns when there is room for more.

        An offset that is not greater than the last one starts a chain at 0: the log was truncated.
        """
        for partition, fetched in groupby(records, key=attrgetter("partition")):
            self._take(partition, list(fetched))
        while self._size > self._pace.memory_bytes and not self._failure.done():
            self._make_room()
            self._changed.clear()
            await self._changed.wait()

    def _take(self, partition: Partition, records: list[Record]) -> None:
        chain = self._chains[partition]
        if records[0].offset <= chain.last and not chain.ended:
            self._start(partition, 0)
            chain = self._chains[partition]
        if chain.ended:  # it has failed
            return
        opened = chain.opened
        try:
            dead_letters = chain.take(records)
            self._metrics.events_taken.value += len(records)
            self._limit.count_events(len(records) - len(dead_letters))
            for each in dead_letters:
                self._limit.count(each.record, each.reason)
        except Exception as error:
            self._fail(chain, error)
            return
        if self._draining:
            chain.seal()
        elif chain.is_open and chain.opened != opened:
            self._loop.call_later(self._pace.linger_seconds, self._linger_ends, chain, chain.opened)
        self._put(chain)

    def _linger_ends(self, chain: Chain, opened: int) -> None:
        if chain.opened == opened:
            chain.seal()
            self._put(chain)

    def _make_room(self) -> None:
        """End the largest batches, so that half of the memory is being put."""
        chains = sorted(self._chains.values(), key=lambda chain: chain.open_size, reverse=True)
        open_bytes = sum(chain.open_size for chain in chains)
        for chain in chains:
            if open_bytes <= self._pace.memory_bytes / 2:
                return
            open_bytes -= chain.open_size
            chain.seal()
            self._put(chain)

    @property
    def _size(self) -> int:
        return sum(chain.size for chain in self._chains.values())

    @property
    def in_flight(self) -> int:
        """How many events are taken and not stored yet."""
        return sum(chain.records for chain in self._chains.values())

    # ---- puts ---------------------------------------------------------------------------------------

    def _put(self, chain: Chain) -> None:
        if chain not in self._tasks and chain.next() is not None:
            self._tasks[chain] = asyncio.create_task(self._put_one_by_one(chain))

    async def _put_one_by_one(self, chain: Chain) -> None:
        try:
            while (batch := chain.next()) is not None:
                if not chain.anchored and batch.lines:
                    holder = await self._writer.holder(batch)
                    if chain.ended:
                        return
                    self._anchor(chain, batch, holder)
                    continue
                existing = await self._writer.write(batch)
                if chain.ended:
                    return
                self._apply(chain, batch, existing)
        except Exception as error:
            # Never reported as stored: the service ends with this error and reads the records again.
            self._fail(chain, error)
        finally:
            del self._tasks[chain]
            self._changed.set()

    def _anchor(self, chain: Chain, batch: Batch, holder: Holder | None) -> None:
        answer = chain.anchor(None if holder is None else holder.end)
        if holder is None or answer is None:
            return
        log.warning(
            "%s, partition %d: the committed offset %d is within a batch that is stored already, %s; reading "
            "continues at %d, where it ends",
            *chain.partition,
            batch.start,
            holder.key,
            holder.end,
        )
        self._count(batch, answer)
        self._on_stored(chain.partition, chain.position - 1)
        self._changed.set()

    def _apply(self, chain: Chain, batch: Batch, existing: Mapping[str, str] | None) -> None:
        before = chain.position
        answer = chain.answer(batch, existing)
        self._count(batch, answer)
        if answer.outcome == "adopted":
            log.info(
                "%s has the same first record: reading continues at %d, where it ends",
                self._writer.key(batch),
                chain.position,
            )
        elif chain.position == before:
            log.warning(
                "Conflict: %s has other records; this batch is kept under the prefix of dead letters",
                self._writer.key(batch),
            )
        if chain.position > before:
            self._on_stored(chain.partition, chain.position - 1)
        self._changed.set()

    def _count(self, batch: Batch, answer: Answer) -> None:
        metrics, now = self._metrics, time.time()
        if not any(answer.dropped):
            return
        outcome = {"adopted": "already_there"}.get(answer.outcome, answer.outcome)
        metrics.objects.values[outcome] += answer.dropped.events
        metrics.objects.values["dead_letter"] += answer.dropped.dead_letters
        metrics.batches.values[answer.outcome] += 1
        metrics.last_stored.value = now
        if answer.outcome == "adopted":
            return
        metrics.object_bytes.value += sum(map(len, batch.lines))
        metrics.batch_events.observe(len(batch.lines))
        for stamp in batch.stamps:
            if stamp.timestamp_ms >= 0:
                metrics.event_age_seconds.observe(max(0.0, now - stamp.timestamp_ms / 1000), stamp.records)

    # ---- the group ----------------------------------------------------------------------------------

    def resume(self, positions: Mapping[Partition, int]) -> None:
        """Start chains: the records of these partitions are read from the group's committed offsets."""
        for partition, position in positions.items():
            self._start(partition, position)

    def _start(self, partition: Partition, position: int) -> None:
        self.revoke([partition])
        self._chains[partition] = Chain(partition, position, self._pace.limits)

    async def drain(self, seconds: float) -> int:
        """End all batches and wait until they are stored, for at most this long.

        Returns:
            How many events are not stored.
        """
        self._draining = True
        try:
            for chain in self._chains.values():
                chain.seal()
                self._put(chain)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while self.in_flight:
                        self._changed.clear()
                        await self._changed.wait()
        finally:
            self._draining = False
        return self.in_flight

    def revoke(self, partitions: Iterable[Partition]) -> None:
        """Report no more offsets of these partitions; a put in flight continues, and is harmless."""
        for partition in partitions:
            chain = self._chains.pop(partition, None)
            if chain is not None:
                chain.end()
        self._changed.set()

    # ---- the end ------------------------------------------------------------------------------------

    async def failed(self) -> None:
        """Wait for the dead-letter limit or an unexpected failure, and raise it.

        Without one this never returns.
        """
        await asyncio.shield(self._failure)

    def _fail(self, chain: Chain, error: Exception) -> None:
        chain.end()
        if not self._failure.done():
            self._metrics.count_error(error)
            self._failure.set_exception(error)
        self._changed.set()

    async def close(self) -> None:
        """Cancel what is still in flight; it was not reported and will be read again."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._chains.clear()
        self._writer.close()
