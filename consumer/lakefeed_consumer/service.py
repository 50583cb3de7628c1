"""Wires the consumer's parts together and runs them until it is asked to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from lakefeed_common import kafka_client
from lakefeed_common.errors import LakefeedError, SettingsError
from lakefeed_common.health import Health
from lakefeed_common.web import StatusServer
from lakefeed_consumer.backoff import Backoff
from lakefeed_consumer.dead_letters.limit import DeadLetterLimit
from lakefeed_consumer.faust_driver.errors import MembershipLostError, TopicRecreatedError
from lakefeed_consumer.faust_driver.topic_check import check_topic
from lakefeed_consumer.feeder import STOP_SECONDS, Feeder, RecordSink
from lakefeed_consumer.metrics import ConsumerMetrics
from lakefeed_consumer.object_store import ObjectStore
from lakefeed_consumer.s3.client import open_store
from lakefeed_consumer.settings import ConsumerSettings
from lakefeed_consumer.sink.batches.batch_sink import BatchSink, Pace
from lakefeed_consumer.sink.batches.batch_writer import BatchWriter
from lakefeed_consumer.sink.batches.chain import Limits
from lakefeed_consumer.sink.placing import DeadLetterWriter, Placer
from lakefeed_consumer.sink.record_writer import RecordWriter
from lakefeed_consumer.sink.sink import Sink, StoredUpTo
from lakefeed_consumer.sink.store_retry import StoreRetry

log = logging.getLogger(__name__)

T = TypeVar("T")

_HEARTBEAT_SECONDS = 1.0
# For what is closed after Faust: connections, tasks, threads.
_CLOSE_SECONDS = 5.0
# Objects; the events of a fetch are fewer.
_COLLECT_AFTER = 50_000
# While the broker, the topic or the bucket is not available yet.
_START_BACKOFF = Backoff(base=0.5, cap=5.0)


async def run(settings: ConsumerSettings) -> None:
    """Run the consumer until SIGTERM or SIGINT.

    Raises:
        SettingsError: the port for metrics is taken, or AWS's configuration cannot be used.
        UnavailableError: Faust stopped by itself.
        DeadLetterLimitError: the topic has too many dead letters.
    """
    for deprecation in settings.deprecations:
        log.warning(deprecation)
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def request_stop() -> None:
        stop.set()
        _exit_after(settings.drain_seconds + STOP_SECONDS + _CLOSE_SECONDS)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, request_stop)
    kafka_client.quiet_lost_connections(loop)
    metrics = ConsumerMetrics()
    health = Health(metrics, ("kafka", "bucket"), stall_seconds=settings.stall_seconds)
    with StatusServer(settings, metrics, health) as server:
        log.info(
            "Consuming %s from %s into s3://%s/%s; metrics on port %d",
            settings.topic,
            settings.kafka_bootstrap_servers,
            settings.bucket,
            settings.layout_prefix,
            server.port,
        )
        heartbeat = asyncio.create_task(_send_heartbeats(health))
        try:
            store = await _unless(stop, _prepare(settings, health))
            if store is None:
                return
            try:
                await _consume(settings, store, metrics, health, stop)
            finally:
                await store.close()
        finally:
            heartbeat.cancel()
    log.info("Stopped")


def _exit_after(seconds: float) -> None:
    """End the process after this long: a call that never returns would keep it until it is killed."""

    def end() -> None:
        log.warning(
            "Not everything has stopped within %g s: the process exits. What is not committed is read again",
            seconds,
        )
        logging.shutdown()
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


async def _send_heartbeats(health: Health) -> None:
    """Show that the event loop runs, however long it waits for something that is unavailable."""
    while True:
        health.beat("event loop")
        await asyncio.sleep(_HEARTBEAT_SECONDS)


async def _consume(
    settings: ConsumerSettings,
    store: ObjectStore,
    metrics: ConsumerMetrics,
    health: Health,
    stop: asyncio.Event,
) -> None:
    backoff = Backoff(settings.retry_base_seconds, settings.retry_cap_seconds)
    limit = DeadLetterLimit(
        settings.dead_letter_limit, settings.dead_letter_limit_share, settings.dead_letter_window_seconds
    )

    def make_sink(on_stored: StoredUpTo) -> RecordSink:
        placer = Placer(store, StoreRetry(backoff, metrics, health), metrics)
        dead_letters = DeadLetterWriter(placer, settings.dead_letter_prefix)
        if settings.layout == "batches":
            batches = BatchWriter(placer, settings.batches_prefix, dead_letters, settings.dead_letter_prefix)
            return BatchSink(batches, _pace(settings), limit, on_stored, metrics)
        writer = RecordWriter(placer, settings.events_prefix, dead_letters, limit, metrics)
        return Sink(writer, settings.puts_in_flight, on_stored, metrics)

    # What is loaded by now stays to the end. Without this the garbage collector would scan it again and
    # again, for a quarter of an event's CPU time. Events come in thousands and have no cycles, so scanning
    # them each time that some hundred exist would find nothing.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    while not stop.is_set():
        try:
            await Feeder(settings, make_sink, metrics, health).run(stop)
        except TopicRecreatedError as error:
            log.warning("The topic was recreated and is read from its start (%s)", error)
        except MembershipLostError as error:
            log.warning("The membership of the group is lost, and the consumer joins again: %s", error)
        if not stop.is_set():
            await _unless(stop, _until_usable("kafka", partial(check_topic, settings), health))


def _pace(settings: ConsumerSettings) -> Pace:
    limits = Limits(settings.batch_max_bytes, settings.batch_max_events)
    return Pace(limits, settings.batch_linger_seconds, settings.batch_memory_bytes)


async def _prepare(settings: ConsumerSettings, health: Health) -> ObjectStore:
    """Wait until the bucket can be used and the topic exists; returns the bucket's store."""
    store = await _until_usable("bucket", partial(_open_store, settings), health)
    health.ready("bucket")
    await _until_usable("kafka", partial(check_topic, settings), health)
    return store


async def _open_store(settings: ConsumerSettings) -> ObjectStore:
    # The credentials chain may ask services for keys, and waits for their responses.
    store = await asyncio.to_thread(open_store, settings)
    await store.check()
    return store


async def _until_usable(dependency: str, attempt: Callable[[], Awaitable[T]], health: Health) -> T:
    """Retry until it works; until then readiness reports the reason. A wrong setting needs a restart."""
    failures = 0
    while True:
        try:
            result = await attempt()
        except SettingsError:
            raise
        except LakefeedError as error:
            health.unready(dependency, str(error))
            failures += 1
            await asyncio.sleep(_START_BACKOFF.wait(failures))
        else:
            return result


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """The work's result, or None if the stop came first."""
    task, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return None
