"""The consumer's core: takes records, stores each as an object, reports what is stored in order.

It knows nothing of Faust or Kafka clients. Whoever feeds it gives it records and is told,
partition by partition, up to which offset everything is stored and may be committed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from hashlib import sha256
from typing import Literal, TypeVar

from lakefeed_common.health import Health
from lakefeed_consumer.backoff import Backoff
from lakefeed_consumer.dead_letters import DeadLetter, why_dead
from lakefeed_consumer.limit import DeadLetterLimit
from lakefeed_consumer.metrics import ConsumerMetrics
from lakefeed_consumer.offsets import OffsetRun
from lakefeed_consumer.records import Partition, Record, object_key
from lakefeed_consumer.store import (
    ObjectExistsError,
    ObjectStore,
    StoreRefusedError,
    StoreUnavailableError,
)

log = logging.getLogger(__name__)

T = TypeVar("T")
StoredUpTo = Callable[[Partition, int], None]
Outcome = Literal["stored", "already_there", "conflict", "dead_letter"]

# A store that fails a put this many times in a row is away, not merely busy.
_FAILURES_TO_BE_AWAY = 4


class Sink:
    """Stores records concurrently, never more than `in_flight` at a time.

    Args:
        store: where the objects go.
        events_prefix, dead_letter_prefix: first parts of the keys.
        in_flight: `submit` waits while that many records are not stored yet; so memory stays
            bounded, and whoever feeds the sink stops reading when the store is away.
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
        self._slots = asyncio.Semaphore(in_flight)
        self._backoff = backoff
        self._on_stored = on_stored
        self._limit = limit
        self._metrics = metrics
        self._health = health
        self._runs: dict[Partition, OffsetRun] = {}
        self._puts: set[asyncio.Task[None]] = set()
        # While the store refuses, one put at a time asks whether it was mended.
        self._refused = asyncio.Lock()
        self._away = False
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def submit(self, records: Iterable[Record]) -> None:
        """Take records of any partitions, in offset order for each; returns when all are in flight.

        An offset that is not greater than the partition's last one starts the partition anew.
        """
        for record in records:
            # Taken before the wait for a slot: the partition may be revoked meanwhile, and be back.
            run = self._run_of(record)
            run.take(record.offset)
            await self._slots.acquire()
            if run.ended:
                self._slots.release()
                continue
            self._metrics.events_taken.inc()
            self._metrics.in_flight.inc()
            put = asyncio.create_task(self._handle(record, run))
            self._puts.add(put)
            put.add_done_callback(self._puts.discard)

    def _run_of(self, record: Record) -> OffsetRun:
        run = self._runs.get(record.partition)
        if run is None or record.offset <= run.last:
            if run is not None:
                run.end()
            run = self._runs[record.partition] = OffsetRun()
        return run

    @property
    def in_flight(self) -> int:
        """How many events are taken and not stored yet."""
        return len(self._puts)

    async def drain(self, seconds: float) -> int:
        """Wait until nothing is in flight, for so long at the most; returns how many events still are."""
        if not self._puts:
            return 0
        _, unfinished = await asyncio.wait(self._puts, timeout=seconds)
        return len(unfinished)

    def revoke(self, partitions: Iterable[Partition]) -> None:
        """Report nothing more of these partitions; puts in flight end, and are harmless."""
        for partition in partitions:
            run = self._runs.pop(partition, None)
            if run is not None:
                run.end()

    async def failed(self) -> None:
        """Wait for the dead-letter limit or a failure that nobody foresaw, and raise it.

        Without one this never returns.
        """
        await asyncio.shield(self._failure)

    async def close(self) -> None:
        """Give up what is still in flight; it was not reported and will be read again."""
        for put in self._puts:
            put.cancel()
        await asyncio.gather(*self._puts, return_exceptions=True)

    async def _handle(self, record: Record, run: OffsetRun) -> None:
        try:
            outcome = await self._store_record(record)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # Never acknowledged: the service ends with this error and reads the record again.
            if not self._failure.done():
                self._metrics.count_error(error)
                self._failure.set_exception(error)
            return
        finally:
            self._slots.release()
            self._metrics.in_flight.dec()
        self._count(record, outcome)
        reached = run.store(record.offset)
        if reached is not None:
            self._on_stored(record.partition, reached)

    async def _store_record(self, record: Record) -> Outcome:
        reason = why_dead(record.value)
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
        while not await self._until_it_works(lambda: self._create(key, body)):
            there = await self._until_it_works(lambda: self._store.read(key))
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

    async def _until_it_works(self, action: Callable[[], Awaitable[T]]) -> T:
        failures = 0
        while True:
            try:
                done = await action()
            except StoreUnavailableError as error:
                failures += 1
                self._note_failure(error, away=failures >= _FAILURES_TO_BE_AWAY)
                await asyncio.sleep(self._backoff.wait(failures))
            except StoreRefusedError as error:
                self._note_failure(error, away=True)
                return await self._until_it_is_mended(action)
            else:
                self._note_success()
                return done

    async def _until_it_is_mended(self, action: Callable[[], Awaitable[T]]) -> T:
        async with self._refused:
            failures = 0
            while True:
                try:
                    done = await action()
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
        self._away = False
        self._health.ready("bucket")

    def _count(self, record: Record, outcome: Outcome) -> None:
        now = time.time()
        self._metrics.objects.labels(outcome).inc()
        if outcome == "stored" and record.value is not None:
            self._metrics.object_bytes.inc(len(record.value))
        if record.timestamp_ms >= 0:
            self._metrics.event_age_seconds.observe(max(0.0, now - record.timestamp_ms / 1000))
        self._metrics.last_stored.set(now)
