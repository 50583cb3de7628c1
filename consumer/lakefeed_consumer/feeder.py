"""The Faust agent that feeds the sink.

Faust acknowledges an event even when its body raised, and can commit past an event that is
still in flight. So the stream runs with `noack`, and the transport commits what the sink says
is stored without a hole.

The transport gives a batch of records the form of one message. To Faust the batch is an event like
any other: its conductor brings it to the agent's stream, which drops it when a rebalance comes.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import faust
from aiokafka.errors import KafkaError
from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from lakefeed_common.errors import UnavailableError
from lakefeed_common.health import Health
from lakefeed_consumer.access import credentials, join_refused, why_not
from lakefeed_consumer.broker import no_topic
from lakefeed_consumer.metrics import ConsumerMetrics
from lakefeed_consumer.records import Partition
from lakefeed_consumer.settings import ConsumerSettings
from lakefeed_consumer.sink import Sink, StoredUpTo
from lakefeed_consumer.transport import EventTransport, Look, Transport

log = logging.getLogger(__name__)

_WATCH_SECONDS = 2.0
_PULSE_SECONDS = 1.0
_TRANSPORTS = {"batches": Transport, "events": EventTransport}
_LOOP = "agent"
_THREAD = "kafka client"
# What Faust may take to stop once nothing is in flight: it commits and leaves the group.
STOP_SECONDS = 5.0


class _Records(faust.Schema[Any, Any]):
    """Leaves a message as the transport made it: its value is a list of records."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002 - as Faust calls it
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002
        return message.value


class Feeder:
    """One Faust app with one agent in a consumer group.

    Args:
        settings: broker, topic and group.
        make_sink: makes the sink; it is given what to call when offsets are stored.
        metrics, health: told of partitions, lag and offsets; readiness of `kafka` is the feeder's.
    """

    def __init__(
        self,
        settings: ConsumerSettings,
        make_sink: Callable[[StoredUpTo], Sink],
        metrics: ConsumerMetrics,
        health: Health,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._health = health
        self._sink = make_sink(self._stored)
        self._taken = 0
        self._stuck = False
        self._assigned = False
        # Up to which offset the events of a partition that were deleted unread are counted.
        self._missed: dict[TP, int] = {}
        self._started = False
        self._folder = tempfile.TemporaryDirectory(prefix="lakefeed-consumer-")
        self.app = self._make_app()

    def _make_app(self) -> Any:
        settings = self._settings
        app: Any = faust.App(
            settings.consumer_group,
            broker=[f"kafka://{server}" for server in settings.kafka_bootstrap_servers.split(",")],
            broker_credentials=credentials(settings),
            broker_session_timeout=settings.session_timeout_seconds,
            broker_heartbeat_interval=settings.session_timeout_seconds / 10,
            broker_commit_interval=settings.commit_interval_seconds,
            # While the bucket is away nothing is polled; that alone must not cost the membership.
            broker_max_poll_interval=86_400.0,
            consumer_auto_offset_reset="earliest",
            # New partitions are seen within this time.
            consumer_metadata_max_age_ms=10_000,
            # More than the transport lets wait, so that Faust itself never pauses a partition.
            stream_buffer_maxsize=8192,
            broker_max_poll_records=2000,
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=False,
            datadir=self._folder.name,
        )
        transport = _TRANSPORTS[settings.feed](app.conf.broker, app, loop=asyncio.get_running_loop())
        transport.drain, transport.drain_seconds = self._sink.drain, settings.drain_seconds
        self._lost = transport.lost = asyncio.get_running_loop().create_future()
        transport.out_of_range = self._out_of_range
        app.transport = transport
        topic = app.topic(settings.topic, schema=_Records())
        self._agent: Any = app.agent(topic, name="store_events")(self._store_events)
        app.on_partitions_revoked.connect(self._on_revoked, weak=False)
        app.on_partitions_assigned.connect(self._on_assigned, weak=False)
        return app

    async def run(self, stop: asyncio.Event) -> None:
        """Feed the sink until asked to stop; then wait for what is in flight, commit, leave the group.

        Raises:
            UnavailableError: Faust gave up; what was not committed is read again after a restart.
            TopicMadeAnewError: another feeder has to read the topic from its start.
            MembershipLostError: another feeder has to join the group.
            Exception: whatever the sink did not foresee.
        """
        try:
            await self._feed(stop)
        finally:
            self._health.retire(_LOOP)
            self._health.retire(_THREAD)
            await self._stop_app()
            await self._sink.close()
            self._folder.cleanup()

    async def _run_app(self) -> None:
        """Start Faust, which waits for the first assignment, and wait until it stops by itself."""
        try:
            await self.app.start()
        except (KafkaError, OSError) as error:
            raise UnavailableError(
                f"Faust cannot start with the broker at {self._settings.kafka_bootstrap_servers}: {error}"
            ) from error
        self._started = True
        await self.app.wait_until_stopped()

    async def _feed(self, stop: asyncio.Event) -> None:
        ends = {
            asyncio.create_task(stop.wait()),
            asyncio.create_task(self._sink.failed()),
            asyncio.create_task(self._run_app()),
            asyncio.ensure_future(self._lost),
            asyncio.create_task(self._watch()),
            asyncio.create_task(self._pulse()),
        }
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in done:
                if not end.cancelled():  # by Faust, which is about to stop
                    end.result()
            if not stop.is_set():
                raise UnavailableError(f"Faust stopped by itself: {self.app.crash_reason!r}")
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    async def _stop_app(self) -> None:
        """Stop Faust, which without a broker can wait for ever: its thread dies in the attempt."""
        stopping = asyncio.create_task(self.app.stop())
        await asyncio.wait({stopping}, timeout=self._settings.drain_seconds + STOP_SECONDS)
        if not stopping.done():
            log.warning("Faust did not stop in time; the group gives up this worker by itself")
            stopping.cancel()

    async def _store_events(self, stream: Any) -> None:
        async for event in stream.noack().events():
            await self._sink.submit(event.value)
            self.app.consumer.taken(event.message)
            self._taken += 1

    def _out_of_range(self, tp: TP, offset: int, start: int) -> None:
        if start > offset:
            # A seek to what is committed comes to the same gap again, which may have grown.
            offset, self._missed[tp] = max(offset, self._missed.get(tp, 0)), start
            if offset >= start:
                return
            log.warning(
                "%s, partition %d: the events from offset %d to %d were deleted before they were read; "
                "reading resumes at %d. Keep events for longer (retention.ms, retention.bytes), or run more "
                "consumers",
                tp.topic,
                tp.partition,
                offset,
                start - 1,
                start,
            )
            self._metrics.never_read.labels(tp.topic, str(tp.partition)).inc(start - offset)
        else:
            log.warning(
                "%s, partition %d: the log ends before offset %d, which was to be read next; it is read "
                "again from its start, %d",
                tp.topic,
                tp.partition,
                offset,
                start,
            )

    def _stored(self, partition: Partition, offset: int) -> None:
        self.app.consumer.stored(TP(*partition), offset)

    async def _on_revoked(self, _: Any, revoked: set[TP], **__: Any) -> None:
        gone = [Partition(tp.topic, tp.partition) for tp in revoked]
        self._sink.revoke(gone)
        self.app.consumer.forget(revoked)
        for partition in gone:
            for gauge in (self._metrics.lag, self._metrics.committed_offset):
                gauge.remove(partition.topic, str(partition.number))
        self._metrics.partitions.set(0)

    async def _on_assigned(self, _: Any, assigned: set[TP], **__: Any) -> None:
        self._assigned = True
        mine = sorted(tp.partition for tp in assigned if tp.topic == self._settings.topic)
        log.info("partitions assigned: %s", ", ".join(map(str, mine)) or "none")
        self._metrics.rebalances.inc()
        self._metrics.partitions.set(len(mine))

    async def _pulse(self) -> None:
        """Show that the agent and the thread of the Kafka client live, and that events do not lie about."""
        self._health.beat(_LOOP)
        while True:
            if not self._started:
                # What it waits for is the broker's or the group's, and readiness says so.
                self._health.beat(_LOOP)
                await asyncio.sleep(_PULSE_SECONDS)
                continue
            if self._agent_lives() and not self._stuck:
                self._health.beat(_LOOP)
            self.app.consumer.in_thread(partial(self._health.beat, _THREAD))
            await asyncio.sleep(_PULSE_SECONDS)

    async def _watch(self) -> None:
        """Measure lag, see whether the broker answers, and whether events are taken when there are some."""
        while True:
            taken = self._taken
            try:
                async with asyncio.timeout(self._settings.kafka_timeout_seconds):
                    mine = self._mine()
                    look = await self.app.consumer.look(mine)
            except ConsumerNotStarted:
                self._stuck = False
            except Exception as error:  # whatever it is, the broker cannot be used now
                self._stuck = False
                self._health.unready("kafka", str(await why_not(self._settings, error)))
            else:
                self._note(look)
                self._note_lag(mine, look)
                self._stuck = taken == self._taken and self._stands_still(mine, look)
            await asyncio.sleep(_WATCH_SECONDS)

    def _agent_lives(self) -> bool:
        """Whether the agent's body still runs: when it ends, Faust goes on without it and says nothing."""
        tasks = [actor.actor_task for actor in self._agent._actors]
        return any(task is not None and not task.done() for task in tasks)

    def _stands_still(self, mine: list[TP], look: Look) -> bool:
        """Whether there are events to fetch, or fetched ones to take, while nothing is being stored."""
        if self._sink.in_flight:
            return False
        consumer = self.app.consumer
        return any(look.positions[tp] < look.ends[tp] or consumer.undelivered(tp) for tp in mine)

    def _mine(self) -> list[TP]:
        return [tp for tp in self.app.consumer.assignment() if tp.topic == self._settings.topic]

    def _note(self, look: Look) -> None:
        if not look.topics:
            # So says a broker that has just started.
            self._health.unready("kafka", f"{self._settings.kafka_bootstrap_servers} knows no topics yet")
        elif self._settings.topic not in look.topics:
            self._health.unready("kafka", no_topic(self._settings))
        elif look.join_refused:
            self._health.unready("kafka", join_refused(self._settings, look.join_refused))
        elif not self._assigned:
            self._health.unready("kafka", "the group has not given out its partitions yet")
        else:
            self._health.ready("kafka")

    def _note_lag(self, mine: list[TP], look: Look) -> None:
        # Of a partition that was taken away meanwhile, nothing may be told any more.
        for tp in set(mine).intersection(self._mine()):
            labels = (tp.topic, str(tp.partition))
            committed = self.app.consumer.committed(tp)
            # Before the first commit a group stands at the partition's start.
            offset = look.starts[tp] if committed is None else committed
            self._metrics.committed_offset.labels(*labels).set(offset)
            # What retention has deleted waits no more.
            self._metrics.lag.labels(*labels).set(max(0, look.ends[tp] - max(offset, look.starts[tp])))
