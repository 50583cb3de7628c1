"""One member of the consumer group: a Faust app with one agent that receives batches of records.

Faust acknowledges an event even when its agent raised, and can commit past an event that is still in flight.
So the agent's stream runs with `noack`, and the consumer commits only what `store` has reported.

To Faust a batch is one message like any other: its conductor puts it into the agent's stream, and drops it
when a rebalance begins.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

import faust
from aiokafka.errors import KafkaError
from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from lakefeed_common.errors import UnavailableError
from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.faust_driver.credentials import credentials
from lakefeed_consumer.faust_driver.hooks import Hooks
from lakefeed_consumer.faust_driver.snapshot import BrokerSnapshot
from lakefeed_consumer.faust_driver.transport import Transport
from lakefeed_consumer.settings import ConsumerSettings


class BatchHandler(Protocol):
    """What a member calls while it is in the group."""

    async def handle(self, records: Iterable[Record]) -> None:
        """Take a batch of records; returns when the next one may come."""

    async def drain(self, seconds: float) -> int:
        """Wait up to this many seconds for events in flight; returns how many still are."""

    def revoke(self, partitions: Collection[Partition]) -> None:
        """Partitions were revoked."""

    def assign(self, partitions: Collection[Partition]) -> None:
        """This is the new assignment."""

    def resume(self, positions: Mapping[Partition, int]) -> None:
        """Records of these partitions follow: from the group's committed offsets on, or 0 without one."""

    def out_of_range(self, partition: Partition, offset: int, start: int) -> None:
        """The log does not have this offset, and is read from its start; called in another thread."""


class _Batches(faust.Schema[Any, Any]):
    """Passes a message on as the consumer created it: its value is a list of records."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002 - Faust's signature
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002
        return message.value


class FaustMember:
    """A member of the group; created within a running event loop.

    Args:
        settings: broker, topic and group.
        handler: what is called with records and on rebalances.

    Attributes:
        lost: fails with `TopicRecreatedError` or `MembershipLostError`.
    """

    def __init__(self, settings: ConsumerSettings, handler: BatchHandler) -> None:
        loop = asyncio.get_running_loop()
        self._settings = settings
        self._handler = handler
        self._folder = tempfile.TemporaryDirectory(prefix="lakefeed-consumer-")
        self.lost: asyncio.Future[None] = loop.create_future()
        self._app = app = _make_app(settings, self._folder.name)
        transport = Transport(app.conf.broker, app, loop=loop)
        transport.hooks = Hooks(
            handler.drain, settings.drain_seconds, handler.resume, self.lost, handler.out_of_range
        )
        app.transport = transport
        topic = app.topic(settings.topic, schema=_Batches())
        self._agent: Any = app.agent(topic, name="store_events")(self._consume)
        app.on_partitions_revoked.connect(self._on_revoked, weak=False)
        app.on_partitions_assigned.connect(self._on_assigned, weak=False)

    # ---- its life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start Faust, and return after the first assignment.

        Raises:
            UnavailableError: the broker cannot be used.
        """
        try:
            await self._app.start()
        except (KafkaError, OSError) as error:
            raise UnavailableError(
                f"Faust cannot start with the broker at {self._settings.kafka_bootstrap_servers}: {error}"
            ) from error

    async def wait_until_stopped(self) -> None:
        """Return when Faust has stopped by itself; `crash_reason` says why."""
        await self._app.wait_until_stopped()

    @property
    def crash_reason(self) -> BaseException | None:
        """Why Faust stopped by itself."""
        reason: BaseException | None = self._app.crash_reason
        return reason

    async def stop(self) -> None:
        """Drain, commit and leave the group. Without a broker this can block forever."""
        await self._app.stop()

    def close(self) -> None:
        """Delete Faust's folder, after the stop."""
        self._folder.cleanup()

    async def _consume(self, stream: Any) -> None:
        async for event in stream.noack().events():
            await self._handler.handle(event.value)
            self._app.consumer.take(event.message)

    async def _on_revoked(self, _: Any, revoked: set[TP], **__: Any) -> None:
        self._handler.revoke([Partition(*tp) for tp in revoked])
        self._app.consumer.forget(revoked)

    async def _on_assigned(self, _: Any, assigned: set[TP], **__: Any) -> None:
        self._handler.assign(self._own(assigned))

    # ---- what the feeder and the monitor ask --------------------------------------------------------

    def store(self, partition: Partition, offset: int) -> None:
        """Note that every record of a partition up to this offset is stored; it is committed soon."""
        self._app.consumer.store(partition, offset)

    def committed(self, partition: Partition) -> int | None:
        """Offset to read next after a restart, as far as this member knows; None before a commit."""
        committed: int | None = self._app.consumer.committed(partition)
        return committed

    def has_unstored(self, partition: Partition) -> bool:
        """Whether a record of this partition was delivered and is not stored yet."""
        unstored: bool = self._app.consumer.has_unstored(partition)
        return unstored

    def assignment(self) -> list[Partition]:
        """The topic's partitions that are assigned now; none before the start."""
        try:
            return self._own(self._app.consumer.assignment())
        except ConsumerNotStarted:
            return []

    async def snapshot(self, partitions: Collection[Partition]) -> BrokerSnapshot | None:
        """Ask the broker for its topics and the offsets of some partitions; None before the start.

        Raises:
            KafkaError, OSError, TimeoutError: it does not answer, or a partition is no longer assigned.
        """
        try:
            snapshot: BrokerSnapshot = await self._app.consumer.snapshot(partitions)
        except ConsumerNotStarted:
            return None
        return snapshot

    def agent_runs(self) -> bool:
        """Whether the agent still runs: when it ends, Faust continues without it and logs nothing."""
        tasks = [actor.actor_task for actor in self._agent._actors]
        return any(task is not None and not task.done() for task in tasks)

    def call_in_client_thread(self, call: Callable[[], None]) -> None:
        """Have a function called by the Kafka client's thread, at its next turn.

        Raises:
            RuntimeError: the thread has ended.
        """
        self._app.consumer.call_in_thread(call)

    def _own(self, partitions: Iterable[tuple[str, int]]) -> list[Partition]:
        return sorted(Partition(*each) for each in partitions if each[0] == self._settings.topic)


def _make_app(settings: ConsumerSettings, folder: str) -> Any:
    return faust.App(
        settings.consumer_group,
        broker=[f"kafka://{server}" for server in settings.kafka_bootstrap_servers.split(",")],
        broker_credentials=credentials(settings),
        broker_session_timeout=settings.session_timeout_seconds,
        broker_heartbeat_interval=settings.session_timeout_seconds / 10,
        broker_commit_interval=settings.commit_interval_seconds,
        # While the bucket is unreachable nothing is polled; that alone must not cost the membership.
        broker_max_poll_interval=86_400.0,
        consumer_auto_offset_reset="earliest",
        # New partitions are noticed within this time.
        consumer_metadata_max_age_ms=10_000,
        # More than the consumer's backlog, so that Faust itself never pauses a partition.
        stream_buffer_maxsize=8192,
        broker_max_poll_records=2000,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        datadir=folder,
    )
