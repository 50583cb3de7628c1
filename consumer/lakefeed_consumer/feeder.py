"""Feeds the sink with the records of one membership of the consumer group."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

from lakefeed_common.errors import UnavailableError
from lakefeed_common.health import Health
from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.faust_driver.member import BatchHandler, FaustMember
from lakefeed_consumer.group_monitor import GroupMonitor, MonitoredMember, Progress
from lakefeed_consumer.metrics import ConsumerMetrics
from lakefeed_consumer.settings import ConsumerSettings
from lakefeed_consumer.sink.sink import StoredUpTo

log = logging.getLogger(__name__)

# How long Faust may take to stop once nothing is in flight: it commits and leaves the group.
STOP_SECONDS = 5.0


class Member(MonitoredMember, Protocol):
    """A member of the consumer group; see `FaustMember`."""

    lost: asyncio.Future[None]

    @property
    def crash_reason(self) -> BaseException | None:
        """Why it stopped by itself."""

    async def start(self) -> None:
        """Join the group."""

    async def wait_until_stopped(self) -> None:
        """Return when it has stopped by itself."""

    async def stop(self) -> None:
        """Drain, commit and leave the group."""

    def close(self) -> None:
        """Release what it holds."""

    def store(self, partition: Partition, offset: int) -> None:
        """Note that every record of a partition up to this offset is stored."""


class RecordSink(Protocol):
    """Stores records; see `Sink` and `BatchSink`."""

    @property
    def in_flight(self) -> int:
        """How many events are taken and not stored yet."""

    async def submit(self, records: Iterable[Record]) -> None:
        """Take records; returns when there is room for more."""

    def resume(self, positions: Mapping[Partition, int]) -> None:
        """Records of these partitions follow, from these positions on."""

    async def drain(self, seconds: float) -> int:
        """Wait up to this many seconds for what is in flight; returns how many events still are."""

    def revoke(self, partitions: Iterable[Partition]) -> None:
        """Report no more offsets of these partitions."""

    async def failed(self) -> None:
        """Wait for a failure and raise it."""

    async def close(self) -> None:
        """Cancel what is in flight."""


class Feeder:
    """Runs one member of the group, its sink and its monitor.

    Args:
        settings: broker, topic and group.
        make_sink: makes the sink; its argument is what to call when offsets are stored.
        metrics, health: updated with partitions, lag, offsets and the readiness of `kafka`.
        make_member: makes the member of the group.
    """

    def __init__(
        self,
        settings: ConsumerSettings,
        make_sink: Callable[[StoredUpTo], RecordSink],
        metrics: ConsumerMetrics,
        health: Health,
        make_member: Callable[[ConsumerSettings, BatchHandler], Member] = FaustMember,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._sink = make_sink(self._stored)
        self._batches = 0
        # Up to which offset the events of a partition that were deleted unread are counted.
        self._deleted_up_to: dict[Partition, int] = {}
        self._member = make_member(settings, self)
        self._monitor = GroupMonitor(settings, self._member, self._progress, metrics, health)

    async def run(self, stop: asyncio.Event) -> None:
        """Feed the sink until `stop` is set; then wait for events in flight, commit, and leave the group.

        Raises:
            UnavailableError: the broker cannot be used at the start, or Faust stopped by itself; what was not
                committed is read again after a restart.
            TopicRecreatedError: another feeder has to read the topic from its start.
            MembershipLostError: another feeder has to join the group.
            Exception: an unexpected failure of the sink.
        """
        try:
            await self._feed(stop)
        finally:
            self._monitor.retire()
            await self._stop_member()
            await self._sink.close()
            self._member.close()

    async def _feed(self, stop: asyncio.Event) -> None:
        ends: set[asyncio.Future[Any]] = {
            asyncio.create_task(stop.wait()),
            asyncio.create_task(self._sink.failed()),
            asyncio.create_task(self._run_member()),
            self._member.lost,
            asyncio.create_task(self._monitor.poll()),
            asyncio.create_task(self._monitor.report_liveness()),
        }
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in done:
                if not end.cancelled():  # by Faust, which is about to stop
                    end.result()
            if not stop.is_set():
                raise UnavailableError(f"Faust stopped by itself: {self._member.crash_reason!r}")
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    async def _run_member(self) -> None:
        """Start the member, which waits for the first assignment, and wait until it stops by itself."""
        await self._member.start()
        self._monitor.started = True
        await self._member.wait_until_stopped()

    async def _stop_member(self) -> None:
        """Stop Faust, which can wait forever without a broker: its thread dies in the attempt."""
        stopping = asyncio.create_task(self._member.stop())
        await asyncio.wait({stopping}, timeout=self._settings.drain_seconds + STOP_SECONDS)
        if not stopping.done():
            log.warning("Faust did not stop in time; the group removes this worker after its session timeout")
            stopping.cancel()

    def _stored(self, partition: Partition, offset: int) -> None:
        self._member.store(partition, offset)

    def _progress(self) -> Progress:
        return Progress(self._batches, self._sink.in_flight)

    # ---- what the member calls: see `BatchHandler` --------------------------------------------------

    async def handle(self, records: Iterable[Record]) -> None:
        """See `BatchHandler`."""
        await self._sink.submit(records)
        self._batches += 1

    async def drain(self, seconds: float) -> int:
        """See `BatchHandler`."""
        return await self._sink.drain(seconds)

    def revoke(self, partitions: Collection[Partition]) -> None:
        """See `BatchHandler`."""
        self._sink.revoke(partitions)
        for partition in partitions:
            for gauge in (self._metrics.lag, self._metrics.committed_offset):
                gauge.remove(partition.topic, str(partition.number))
        self._metrics.partitions.set(0)

    def resume(self, positions: Mapping[Partition, int]) -> None:
        """See `BatchHandler`."""
        self._sink.resume(positions)

    def assign(self, partitions: Collection[Partition]) -> None:
        """See `BatchHandler`."""
        self._monitor.assigned = True
        log.info("Partitions assigned: %s", ", ".join(str(each.number) for each in partitions) or "none")
        self._metrics.rebalances.inc()
        self._metrics.partitions.set(len(partitions))

    def out_of_range(self, partition: Partition, offset: int, start: int) -> None:
        """See `BatchHandler`."""
        if start <= offset:
            log.warning(
                "%s, partition %d: the log ends before offset %d, which was the next to read; it is read "
                "again from its start, %d",
                partition.topic,
                partition.number,
                offset,
                start,
            )
            return
        # A seek to the committed offset hits the same gap again, which may have grown.
        offset = max(offset, self._deleted_up_to.get(partition, 0))
        self._deleted_up_to[partition] = start
        if offset < start:
            log.warning(
                "%s, partition %d: the events from offset %d to %d were deleted before they were read; "
                "reading resumes at %d. Keep events for longer (retention.ms, retention.bytes), or run more "
                "consumers",
                partition.topic,
                partition.number,
                offset,
                start - 1,
                start,
            )
            self._metrics.never_read.labels(partition.topic, str(partition.number)).inc(start - offset)
