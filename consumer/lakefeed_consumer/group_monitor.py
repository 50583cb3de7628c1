"""Watches a member of the consumer group: readiness of `kafka`, liveness, and each partition's lag."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple, Protocol

from lakefeed_common.health import Health
from lakefeed_common.lake.records import Partition
from lakefeed_consumer.faust_driver.diagnosis import diagnose_connection
from lakefeed_consumer.faust_driver.permissions import join_refused
from lakefeed_consumer.faust_driver.snapshot import BrokerSnapshot
from lakefeed_consumer.faust_driver.topic_check import no_topic
from lakefeed_consumer.metrics import ConsumerMetrics
from lakefeed_consumer.settings import ConsumerSettings

_POLL_SECONDS = 2.0
_HEARTBEAT_SECONDS = 1.0
# Names of the loops whose heartbeats liveness shows.
_AGENT = "agent"
_THREAD = "kafka client"


class Progress(NamedTuple):
    """How far the work is.

    Attributes:
        batches: batches that the sink has taken so far.
        in_flight: events that are being stored.
    """

    batches: int
    in_flight: int


class MonitoredMember(Protocol):
    """What the monitor asks of a member; see `FaustMember`."""

    def assignment(self) -> list[Partition]:
        """The topic's partitions that are assigned now."""

    async def snapshot(self, partitions: Collection[Partition]) -> BrokerSnapshot | None:
        """What the broker reports now; None before the start."""

    def committed(self, partition: Partition) -> int | None:
        """Offset to read next after a restart; None before a commit."""

    def has_unstored(self, partition: Partition) -> bool:
        """Whether a record of this partition was delivered and is not stored yet."""

    def agent_runs(self) -> bool:
        """Whether the agent still runs."""

    def call_in_client_thread(self, call: Callable[[], None]) -> None:
        """Have a function called by the Kafka client's thread."""


class GroupMonitor:
    """Polls a member and the broker.

    Args:
        settings: broker, topic and group.
        member: the one to watch.
        progress: returns how far the work is.
        metrics, health: what is updated.

    Attributes:
        started: whether the member has started.
        assigned: whether the group has assigned partitions, or none, to the member.
    """

    def __init__(
        self,
        settings: ConsumerSettings,
        member: MonitoredMember,
        progress: Callable[[], Progress],
        metrics: ConsumerMetrics,
        health: Health,
    ) -> None:
        self._settings = settings
        self._member = member
        self._progress = progress
        self._metrics = metrics
        self._health = health
        self._stalled = False
        self.started = False
        self.assigned = False

    async def report_liveness(self) -> None:
        """Send heartbeats while the agent and the Kafka client's thread run, and events are being taken."""
        self._health.beat(_AGENT)
        while True:
            if not self.started:
                # It waits for the broker or the group, which readiness reports.
                self._health.beat(_AGENT)
                await asyncio.sleep(_HEARTBEAT_SECONDS)
                continue
            if self._member.agent_runs() and not self._stalled:
                self._health.beat(_AGENT)
            self._member.call_in_client_thread(partial(self._health.beat, _THREAD))
            await asyncio.sleep(_HEARTBEAT_SECONDS)

    def retire(self) -> None:
        """Expect no more heartbeats."""
        self._health.retire(_AGENT)
        self._health.retire(_THREAD)

    async def poll(self) -> None:
        """Ask the broker from time to time: for readiness, lag, and whether events wait untaken."""
        while True:
            batches = self._progress().batches
            try:
                async with asyncio.timeout(self._settings.kafka_timeout_seconds):
                    partitions = self._member.assignment()
                    snapshot = await self._member.snapshot(partitions)
            except Exception as error:  # whatever it is, the broker cannot be used now
                self._stalled = False
                self._health.unready("kafka", str(await diagnose_connection(self._settings, error)))
            else:
                self._stalled = False
                if snapshot is not None:
                    self._report_readiness(snapshot)
                    self._report_lag(partitions, snapshot)
                    taken = self._progress().batches > batches
                    self._stalled = not taken and self._events_wait(partitions, snapshot)
            await asyncio.sleep(_POLL_SECONDS)

    def _events_wait(self, partitions: list[Partition], snapshot: BrokerSnapshot) -> bool:
        """Whether there are events to fetch, or fetched ones to take, while none is being stored."""
        if self._progress().in_flight:
            return False
        return any(
            snapshot.positions[each] < snapshot.ends[each] or self._member.has_unstored(each)
            for each in partitions
        )

    def _report_readiness(self, snapshot: BrokerSnapshot) -> None:
        settings = self._settings
        if not snapshot.topics:
            # A broker that has just started reports none.
            self._health.unready("kafka", f"{settings.kafka_bootstrap_servers} has no topics yet")
        elif settings.topic not in snapshot.topics:
            self._health.unready("kafka", no_topic(settings))
        elif snapshot.join_refused:
            self._health.unready("kafka", join_refused(settings, snapshot.join_refused))
        elif not self.assigned:
            self._health.unready("kafka", "the group has not assigned its partitions yet")
        else:
            self._health.ready("kafka")

    def _report_lag(self, partitions: list[Partition], snapshot: BrokerSnapshot) -> None:
        # A partition that was revoked meanwhile must not be reported any more.
        for each in set(partitions).intersection(self._member.assignment()):
            labels = (each.topic, str(each.number))
            committed = self._member.committed(each)
            # Before its first commit a group starts at the partition's start.
            offset = snapshot.starts[each] if committed is None else committed
            self._metrics.committed_offset.labels(*labels).set(offset)
            # What retention has deleted is not lag.
            lag = max(0, snapshot.ends[each] - max(offset, snapshot.starts[each]))
            self._metrics.lag.labels(*labels).set(lag)
