"""The consumer's core: stores records concurrently, and reports offsets in order.

It knows nothing of Faust or Kafka clients. It is given records and reports, for each partition, up to which
offset everything is stored and may be committed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.metrics import ConsumerMetrics
from lakefeed_consumer.sink.offsets import OffsetRun
from lakefeed_consumer.sink.record_writer import RecordWriter

StoredUpTo = Callable[[Partition, int], None]
Taken = tuple[Record, OffsetRun]

# How many offsets of a partition may wait to be reported, at a hundred bytes each: many seconds of puts while
# one of them is not answered.
_MAX_UNREPORTED = 200_000


class Sink:
    """Stores records concurrently, never more than `in_flight` at a time.

    Records wait in one queue. A pool of tasks takes them from there, each task one record after the other: a
    put that ends costs no turn of the event loop before the next one begins.

    Args:
        writer: stores a record.
        in_flight: how many records are stored at the same time. `submit` also waits while more than that many
            are queued, or very many are behind one that cannot be stored. So memory stays bounded, and the
            caller stops reading while the store is unavailable.
        on_stored: called with a partition and an offset when every submitted record of the partition
            up to this offset is stored.
        metrics: updated with events taken and in flight.
    """

    def __init__(
        self, writer: RecordWriter, in_flight: int, on_stored: StoredUpTo, metrics: ConsumerMetrics
    ) -> None:
        self._writer = writer
        self._max_in_flight = in_flight
        self._on_stored = on_stored
        self._metrics = metrics
        self._runs: dict[Partition, OffsetRun] = {}
        self._queue: deque[Taken] = deque()
        self._room = asyncio.Event()
        self._reported = asyncio.Event()
        self._pool: list[asyncio.Task[None]] = []
        # What the idle tasks of the pool wait for.
        self._idle: list[asyncio.Future[Taken]] = []
        self._in_flight = 0
        self._settled = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._failure: asyncio.Future[None] = self._loop.create_future()
        metrics.in_flight.set_function(lambda: self._in_flight)

    async def submit(self, records: Iterable[Record]) -> None:
        """Take records of any partitions, in offset order for each; returns when nearly all are in flight.

        An offset that is not greater than the partition's last one starts a new run of the partition.
        """
        partition, run = None, OffsetRun()
        for record in records:
            if record.partition != partition or record.offset <= run.last:
                partition, run = record.partition, self._run_of(record)
            # A queued record counts already: no offset after it is reported before it is stored.
            run.take(record.offset)
            self._queue.append((record, run))
        self._assign()
        while len(self._queue) > self._max_in_flight:
            self._room.clear()
            await self._room.wait()
        while any(run.unreported > _MAX_UNREPORTED for run in self._runs.values()):
            self._reported.clear()
            await self._reported.wait()

    def _run_of(self, record: Record) -> OffsetRun:
        run = self._runs.get(record.partition)
        if run is None or record.offset <= run.last:
            if run is not None:
                run.end()
            run = self._runs[record.partition] = OffsetRun()
        return run

    def _assign(self) -> None:
        """Give queued records to idle tasks, and to new ones while the pool may grow."""
        while self._idle or len(self._pool) < self._max_in_flight:
            taken = self._take()
            if taken is None:
                return
            if self._idle:
                self._idle.pop().set_result(taken)
            else:
                self._pool.append(asyncio.create_task(self._store_one_by_one(taken)))

    def _take(self) -> Taken | None:
        """The next record of the queue; None if it is empty."""
        queue = self._queue
        while queue:
            taken = queue.popleft()
            if len(queue) == self._max_in_flight:
                self._room.set()
            if not taken[1].ended:
                self._in_flight += 1
                self._metrics.events_taken.value += 1
                return taken
        return None

    @property
    def in_flight(self) -> int:
        """How many events are taken from the queue and not stored yet."""
        return self._in_flight

    async def drain(self, seconds: float) -> int:
        """Drop the queue and wait for records in flight, for at most this long.

        What was queued will be read again: its run reports no offset after it.

        Returns:
            How many events are still in flight.
        """
        self._queue.clear()
        self._room.set()
        if self._in_flight:
            self._settled.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._settled.wait()
        return self._in_flight

    def resume(self, positions: Mapping[Partition, int]) -> None:
        """Do nothing: an object depends on its record alone."""

    def revoke(self, partitions: Iterable[Partition]) -> None:
        """Report no more offsets of these partitions; puts in flight continue, and are harmless."""
        for partition in partitions:
            run = self._runs.pop(partition, None)
            if run is not None:
                run.end()
        self._reported.set()

    async def failed(self) -> None:
        """Wait for the dead-letter limit or an unexpected failure, and raise it.

        Without one this never returns.
        """
        await asyncio.shield(self._failure)

    async def close(self) -> None:
        """Cancel what is still in flight; it was not reported and will be read again."""
        self._queue.clear()
        for task in self._pool:
            task.cancel()
        await asyncio.gather(*self._pool, return_exceptions=True)
        self._in_flight = 0

    async def _store_one_by_one(self, taken: Taken | None) -> None:
        """One task of the pool."""
        while True:
            while taken is not None:
                record, run = taken
                try:
                    await self._writer.write(record)
                    reached = run.store(record.offset)
                    if reached is not None:
                        self._on_stored(record.partition, reached)
                        self._reported.set()
                except Exception as error:
                    self._fail(error)
                finally:
                    self._in_flight -= 1
                    if not self._in_flight:
                        self._settled.set()
                taken = self._take()
            idle = self._loop.create_future()
            self._idle.append(idle)
            taken = await idle

    def _fail(self, error: Exception) -> None:
        """End the service: the record is never reported as stored, and will be read again."""
        if not self._failure.done():
            self._metrics.count_error(error)
            self._failure.set_exception(error)
