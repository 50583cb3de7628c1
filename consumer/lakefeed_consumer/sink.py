"""The consumer's core: takes records, stores each as an object, reports what is stored in order.

It knows nothing of Faust or Kafka clients. Whoever feeds it gives it records and is told,
partition by partition, up to which offset everything is stored and may be committed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from hashlib import sha256
from typing import Literal, ParamSpec, TypeVar

from lakefeed_common.health import Health
from lakefeed_consumer.backoff import Backoff
from lakefeed_consumer.dead_letters.format import DeadLetter
from lakefeed_consumer.dead_letters.limit import DeadLetterLimit
from lakefeed_consumer.dead_letters.validation import invalid_reason
from lakefeed_consumer.metrics import ConsumerMetrics
from lakefeed_consumer.object_store import (
    ObjectExistsError,
    ObjectStore,
    StoreRefusedError,
    StoreUnavailableError,
)
from lakefeed_consumer.offsets import OffsetRun
from lakefeed_consumer.record import Partition, Record, object_key

log = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")
StoredUpTo = Callable[[Partition, int], None]
Taken = tuple[Record, OffsetRun]
Outcome = Literal["stored", "already_there", "conflict", "dead_letter"]

# A store that fails a put this many times in a row is away, not merely busy.
_FAILURES_TO_BE_AWAY = 4
# So many offsets of a partition may wait for a report, at a hundred bytes each: many seconds of puts while
# one of them is not answered.
_MOST_UNREPORTED = 200_000


class Sink:
    """Stores records concurrently, never more than `in_flight` at a time.

    Records wait in one line. A pool of put tasks takes them from there, each one record after the other:
    a put that ends costs no turn of the event loop before the next one begins.

    Args:
        store: where the objects go.
        events_prefix, dead_letter_prefix: first parts of the keys.
        in_flight: how many records are put at a time; `submit` waits while more than that many wait for
            their put besides, or very many behind one that cannot be stored. So memory stays bounded, and
            whoever feeds the sink stops reading when the store is away.
        backoff: waits between the tries of a put.
        on_stored: called with a partition and an offset when everything that was submitted
            of the partition up to this offset is stored, as object or dead letter.
        limit: told of each event; beyond it no dead letter is stored, and `failed` raises.
        metrics, health: told what happens; readiness of `bucket` is the sink's.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        events_prefix: str,
        dead_letter_prefix: str,
        in_flight: int,
        backoff: Backoff,
        on_stored: StoredUpTo,
        limit: DeadLetterLimit,
        metrics: ConsumerMetrics,
        health: Health,
    ) -> None:
        self._store = store
        self._events_prefix = events_prefix
        self._dead_letter_prefix = dead_letter_prefix
        self._most = in_flight
        self._backoff = backoff
        self._on_stored = on_stored
        self._limit = limit
        self._metrics = metrics
        self._health = health
        self._runs: dict[Partition, OffsetRun] = {}
        self._line: deque[Taken] = deque()
        self._room = asyncio.Event()
        self._reported = asyncio.Event()
        self._pool: list[asyncio.Task[None]] = []
        # What those of the pool that have nothing to do wait for.
        self._idle: list[asyncio.Future[Taken]] = []
        self._in_flight = 0
        self._settled = asyncio.Event()
        # While the store refuses, one put at a time asks whether it was mended.
        self._refused = asyncio.Lock()
        # None before the first answer.
        self._away: bool | None = None
        self._recoveries = 0
        self._loop = asyncio.get_running_loop()
        self._failure: asyncio.Future[None] = self._loop.create_future()
        metrics.in_flight.set_function(lambda: self._in_flight)

    async def submit(self, records: Iterable[Record]) -> None:
        """Take records of any partitions, in offset order for each; returns when nearly all are in flight.

        An offset that is not greater than the partition's last one starts the partition anew.
        """
        partition, run = None, OffsetRun()
        for record in records:
            if record.partition != partition or record.offset <= run.last:
                partition, run = record.partition, self._run_of(record)
            # In line the record counts already: no offset behind it is reported before it is stored.
            run.take(record.offset)
            self._line.append((record, run))
        self._hand_out()
        while len(self._line) > self._most:
            self._room.clear()
            await self._room.wait()
        while any(run.unreported > _MOST_UNREPORTED for run in self._runs.values()):
            self._reported.clear()
            await self._reported.wait()

    def _run_of(self, record: Record) -> OffsetRun:
        run = self._runs.get(record.partition)
        if run is None or record.offset <= run.last:
            if run is not None:
                run.end()
            run = self._runs[record.partition] = OffsetRun()
        return run

    def _hand_out(self) -> None:
        """Give records to those of the pool that have none; make more of them while the pool is small."""
        while self._idle or len(self._pool) < self._most:
            taken = self._take()
            if taken is None:
                return
            if self._idle:
                self._idle.pop().set_result(taken)
            else:
                self._pool.append(asyncio.create_task(self._put_one_by_one(taken)))

    def _take(self) -> Taken | None:
        """The next record in line; None when there is none."""
        line = self._line
        while line:
            taken = line.popleft()
            if len(line) == self._most:
                self._room.set()
            if not taken[1].ended:
                self._in_flight += 1
                self._metrics.events_taken.value += 1
                return taken
        return None

    @property
    def in_flight(self) -> int:
        """How many events are taken from the line and not stored yet."""
        return self._in_flight

    async def drain(self, seconds: float) -> int:
        """Give up the line and wait for what is in flight, for so long at the most.

        What stood in line will be read again: its run reports nothing behind it any more.

        Returns:
            How many events still are in flight.
        """
        self._line.clear()
        self._room.set()
        if self._in_flight:
            self._settled.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._settled.wait()
        return self._in_flight

    def revoke(self, partitions: Iterable[Partition]) -> None:
        """Report nothing more of these partitions; puts in flight end, and are harmless."""
        for partition in partitions:
            run = self._runs.pop(partition, None)
            if run is not None:
                run.end()
        self._reported.set()

    async def failed(self) -> None:
        """Wait for the dead-letter limit or a failure that nobody foresaw, and raise it.

        Without one this never returns.
        """
        await asyncio.shield(self._failure)

    async def close(self) -> None:
        """Give up what is still in flight; it was not reported and will be read again."""
        self._line.clear()
        for put in self._pool:
            put.cancel()
        await asyncio.gather(*self._pool, return_exceptions=True)
        self._in_flight = 0

    async def _put_one_by_one(self, taken: Taken | None) -> None:
        """One of the pool."""
        while True:
            while taken is not None:
                await self._put(*taken)
                taken = self._take()
            idle = self._loop.create_future()
            self._idle.append(idle)
            taken = await idle

    async def _put(self, record: Record, run: OffsetRun) -> None:
        try:
            outcome = await self._store_record(record)
            self._count(record, outcome)
            reached = run.store(record.offset)
            if reached is not None:
                self._on_stored(record.partition, reached)
                self._reported.set()
        except Exception as error:
            # Never acknowledged: the service ends with this error and reads the record again.
            if not self._failure.done():
                self._metrics.count_error(error)
                self._failure.set_exception(error)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._settled.set()

    async def _store_record(self, record: Record) -> Outcome:
        reason = invalid_reason(record.value)
        self._limit.count(record, reason)
        if record.value is None or reason is not None:
            await self._store_aside(record, reason or "null value")
            return "dead_letter"
        key = object_key(self._events_prefix, record)
        placed = await self._place(key, record.value)
        if placed == "conflict":
            log.warning("conflict: %s holds another body; this one is stored aside", key)
            await self._store_aside(record, f"conflict: {key} holds another body")
        return placed

    async def _store_aside(self, record: Record, reason: str) -> None:
        body = DeadLetter(record, reason).body()
        key = object_key(self._dead_letter_prefix, record)
        if await self._place(key, body) == "conflict":
            # A topic that was deleted and made again can bring two dead letters to one key.
            await self._place(f"{key.removesuffix('.json')}-{sha256(body).hexdigest()[:16]}.json", body)

    async def _place(self, key: str, body: bytes) -> Literal["stored", "already_there", "conflict"]:
        """Create an object, or find out what its key holds already."""
        tries = 0
        while not await self._until_it_works(self._create, key, body):
            there = await self._until_it_works(self._store.read, key)
            if there is not None:
                return "already_there" if there == body else "conflict"
            # S3 answers "exists" also while another request for the key is under way.
            tries += 1
            await asyncio.sleep(self._backoff.wait(tries))
        return "stored"

    async def _create(self, key: str, body: bytes) -> bool:
        began = time.perf_counter()
        try:
            await self._store.create(key, body)
        except ObjectExistsError:
            return False
        finally:
            self._metrics.put_seconds.observe(time.perf_counter() - began)
        return True

    async def _until_it_works(
        self, action: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        failures = 0
        while True:
            recoveries = self._recoveries
            try:
                done = await action(*args, **kwargs)
            except StoreUnavailableError as error:
                failures += 1
                self._note_failure(error, away=failures >= _FAILURES_TO_BE_AWAY)
                await asyncio.sleep(self._backoff.wait(failures))
            except StoreRefusedError as error:
                if recoveries != self._recoveries:
                    continue  # asked before the store was fixed, and answered after another put
                self._note_failure(error, away=True)
                return await self._until_it_is_mended(action, *args, **kwargs)
            else:
                # One that the store refuses still says more than another that it takes.
                if not self._refused.locked():
                    self._note_success()
                return done

    async def _until_it_is_mended(
        self, action: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        async with self._refused:
            failures = 0
            while True:
                try:
                    done = await action(*args, **kwargs)
                except (StoreUnavailableError, StoreRefusedError) as error:
                    failures += 1
                    self._note_failure(error, away=True)
                    await asyncio.sleep(self._backoff.wait(failures))
                else:
                    self._note_success()
                    return done

    def _note_failure(self, error: StoreUnavailableError | StoreRefusedError, *, away: bool) -> None:
        self._metrics.retries.labels(error.cause).inc()
        if not away:
            return
        if not self._away:
            # One outage is one error, however many puts it holds up and however often they are tried.
            self._metrics.count_error(error)
        self._away = True
        self._health.unready("bucket", str(error))

    def _note_success(self) -> None:
        if self._away is not False:
            self._away = False
            self._recoveries += 1
            self._health.ready("bucket")

    def _count(self, record: Record, outcome: Outcome) -> None:
        metrics, now = self._metrics, time.time()
        metrics.objects.values[outcome] += 1
        if outcome == "stored" and record.value is not None:
            metrics.object_bytes.value += len(record.value)
        if record.timestamp_ms >= 0:
            metrics.event_age_seconds.observe(max(0.0, now - record.timestamp_ms / 1000))
        metrics.last_stored.value = now
