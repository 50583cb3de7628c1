"""Faust's consumer: delivers records in batches, and commits what the sink has stored and nothing else.

Faust's own bookkeeping commits past events in flight when offsets have gaps, drops pending commits when
partitions are revoked, treats a failed commit as done, and stops the worker over a commit that the broker
refuses: docs/decisions/0016-commits-of-our-own.md. Its path to the agent costs each message more than
everything else that is done with an event: docs/decisions/0022-batches-under-faust.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any

from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from lakefeed_common import kafka_client
from lakefeed_consumer.faust_driver.backlog import Backlog
from lakefeed_consumer.faust_driver.commits import Commits, PartitionKey
from lakefeed_consumer.faust_driver.consumer_thread import ConsumerThread
from lakefeed_consumer.faust_driver.errors import MembershipLostError, TopicRecreatedError
from lakefeed_consumer.faust_driver.hooks import Hooks
from lakefeed_consumer.faust_driver.snapshot import BrokerSnapshot
from lakefeed_consumer.faust_driver.topic_ids import TopicIds
from lakefeed_consumer.record import Partition, Record

# Not this module's name: Faust logs under that, at INFO, what the consumer reports itself.
log = logging.getLogger("lakefeed_consumer")

# Faust's thread serves two calls at a time, so none may occupy it for long.
_RESPONSE_SECONDS = 10.0
# Fetching pauses while this much is not taken by the agent. One batch being stored and one behind it keep
# the agent busy.
_MAX_BACKLOG_RECORDS = 4_000
_MAX_BACKLOG_BYTES = 32 * 1024 * 1024


class _NoReadOffsets(dict[TP, None]):
    """Holds no offset: Faust would drop records below it, although a reset to the start brings them again."""

    def __missing__(self, tp: TP) -> None:
        return None

    def __setitem__(self, tp: TP, offset: object) -> None:
        return


class GroupConsumer(driver.Consumer):
    """A member of the group that delivers batches and commits the offsets passed to `store`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_offset: Any = _NoReadOffsets()
        # Faust clears its own bookkeeping before a rebalance's last commit.
        self._commits = Commits()
        self._backlog = Backlog(_MAX_BACKLOG_RECORDS, _MAX_BACKLOG_BYTES)
        self._topic_ids = TopicIds()

    def _new_consumer_thread(self) -> ConsumerThread:
        thread = ConsumerThread(self, loop=self.loop, beacon=self.beacon)
        kafka_client.quiet_lost_connections(thread.thread_loop)
        return thread

    @property
    def _hooks(self) -> Hooks:
        transport: Any = self.transport
        hooks: Hooks = transport.hooks
        return hooks

    # ---- from the broker to the agent -------------------------------------------------------------

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Fetch records and yield one message for each partition, unless a rebalance revokes it meanwhile."""
        fetched, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if not fetched or self.should_stop:
            return
        if not self.flow_active:
            # What is dropped here counts as read for Kafka's client.
            await self._seek_back()
            return
        for tp, records in fetched.items():
            # A rebalance may begin, and end, between two batches.
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if active and tp in active:
                yield tp, self._batch_message(tp, records)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        if self._backlog.full:
            await self._backlog.wait(timeout)
            return {}
        return await super()._getmany(active_partitions, timeout)

    async def _seek_back(self) -> None:
        try:
            await self.perform_seek()
        except Exception as error:
            log.info("Seeking to the committed offsets is left to the end of the rebalance: %r", error)

    def _batch_message(self, tp: TP, fetched: Sequence[Any]) -> ConsumerMessage:
        """aiokafka's records of a partition, in order, as one message for the agent."""
        partition = Partition(*tp)
        # Faust declares a message's value as bytes; only the topic's schema reads it.
        records: Any = [
            # Records of message format 0 have no timestamp.
            Record(partition, r.offset, -1 if r.timestamp is None else r.timestamp, r.key, r.value, r.headers)
            for r in fetched
        ]
        size = sum(r.serialized_value_size for r in fetched)
        self._commits.deliver(tp, fetched[-1].offset)
        self._backlog.add(len(fetched), size)
        return ConsumerMessage(
            topic=tp.topic,
            partition=tp.partition,
            offset=fetched[0].offset,
            timestamp=0.0,  # this and what follows: each record has its own
            timestamp_type=0,
            headers=None,
            key=None,
            value=records,
            checksum=None,
            serialized_key_size=0,
            serialized_value_size=size,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    def take(self, message: Any) -> None:
        """Note that the agent has taken a message's records."""
        self._backlog.take(len(message.value), message.serialized_value_size)

    # ---- what is stored and committed -------------------------------------------------------------

    def store(self, partition: Partition, offset: int) -> None:
        """Note that every record of a partition up to this offset is stored."""
        self._commits.store(partition, offset)

    def forget(self, partitions: Collection[PartitionKey]) -> None:
        """Commit nothing more of these partitions."""
        self._commits.forget(partitions)
        # A rebalance revokes all partitions, and Faust drops what it has fetched.
        self._backlog.clear()

    def committed(self, partition: Partition) -> int | None:
        """Offset to read next after a restart, as far as this member knows; None before a commit."""
        return self._commits.committed(partition)

    def has_unstored(self, partition: Partition) -> bool:
        """Whether a record of this partition was delivered and is not stored yet."""
        return self._commits.has_unstored(partition)

    async def force_commit(self, *_: Any, **__: Any) -> bool:
        """Commit what is stored and not committed yet, of every topic; Faust makes one call at a time."""
        commits = self._commits
        # Faust also calls this when it stops before it has started, and then there is no assignment.
        offsets = commits.due(self.assignment()) if commits.any_stored else {}
        if not offsets:
            return False
        try:
            recreated = await self._thread.call_thread(
                self._commit_unless_recreated, offsets, commits.committed_before(offsets)
            )
        except CommitFailedError:
            return False  # another member has the partitions by now, and reads these events again
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            if commits.fail():
                log.warning("Offsets cannot be committed now; the commit is retried: %r", error)
            return False
        if recreated:
            self._end_commits(recreated)
            return False
        commits.succeed(offsets)
        return True

    async def _commit_unless_recreated(
        self, offsets: dict[PartitionKey, int], before: set[PartitionKey]
    ) -> set[PartitionKey]:
        """Commit, in aiokafka's thread; or return those partitions whose topic was recreated.

        A broker deletes a group's offsets together with the topic. Without this check an offset of the old
        topic would be committed in the new one, past events that no consumer has stored.
        """
        consumer = self._thread._ensure_consumer()
        coordinator, ids = consumer._coordinator, self._topic_ids
        async with asyncio.timeout(_RESPONSE_SECONDS):
            known = await coordinator.fetch_committed_offsets([TopicPartition(*tp) for tp in before])
            missing = before - {tuple(tp) for tp, committed in known.items() if committed.offset >= 0}
            recreated = await ids.recreated(coordinator, missing) if missing else set()
            if not recreated:
                await ids.learn(coordinator, {topic for topic, _ in before})
                await consumer.commit(
                    {TopicPartition(*tp): OffsetAndMetadata(at, "") for tp, at in offsets.items()}
                )
        for topic, number in sorted(missing - recreated):
            log.warning(
                "%s, partition %d: the broker has lost the committed offset, although the topic is the same. "
                "It is committed again; check the replicas of __consumer_offsets",
                topic,
                number,
            )
        return recreated

    def _end_commits(self, recreated: set[PartitionKey]) -> None:
        self._commits.end()
        topic, number = min(recreated)
        self._hooks.fail(
            TopicRecreatedError(f"{topic}, partition {number}: the broker no longer has the committed offset")
        )

    # ---- seeking and draining, where Faust would lose or delay events -----------------------------

    async def perform_seek(self) -> None:
        """Seek to the committed offsets, and to the start where there is no commit.

        Faust would keep the position of a partition without a commit, after dropping what it had fetched.
        """
        committed = await self._thread.call_thread(self._seek_all)
        self._commits.resume(committed)

    async def _seek_all(self) -> dict[Any, int | None]:
        consumer = self._thread._ensure_consumer()
        # Before the offsets: if a topic is recreated in between, its offsets are gone and not another's.
        self._topic_ids.clear()
        try:
            async with asyncio.timeout(_RESPONSE_SECONDS):
                await self._topic_ids.learn(consumer._coordinator, {tp.topic for tp in self.assignment()})
        except (KafkaError, TimeoutError) as error:
            log.info("Topic IDs are not available now and are requested with the next commit: %r", error)
        committed: dict[Any, int | None] = await consumer.seek_to_committed()
        never = [tp for tp, offset in committed.items() if offset is None]
        if never:
            for tp, start in (await consumer.beginning_offsets(never)).items():
                consumer.seek(tp, start)
        for tp, offset in committed.items():
            if offset == 0:  # aiokafka does not seek to this one
                consumer.seek(tp, offset)
        return committed

    async def wait_empty(self) -> None:
        """Wait until everything taken is stored, for at most `drain_seconds`, and commit.

        Faust waits without a limit; while the bucket is unreachable that would cost the membership, or block
        the stop.
        """
        hooks = self._hooks
        # Faust calls this again when it stops for good, and nothing can be stored by then.
        if not self.should_stop:
            count = await hooks.drain(hooks.drain_seconds)
            if count:
                log.warning(
                    "%d events are not stored after %g s and will be read again", count, hooks.drain_seconds
                )
        await self.commit_and_end_transactions()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: liveness reports a stalled worker, and lag a slow one."""

    # ---- monitoring ---------------------------------------------------------------------------------

    def call_in_thread(self, call: Callable[[], None]) -> None:
        """Have a function called by the thread that speaks to the broker, at its next turn.

        Raises:
            RuntimeError: the thread has ended.
        """
        self._thread.thread_loop.call_soon_threadsafe(call)

    async def snapshot(self, partitions: Collection[Partition]) -> BrokerSnapshot:
        """Ask the broker for its topics, and for the offsets of some partitions.

        Raises:
            KafkaError, OSError, TimeoutError: it does not answer, or a partition is no longer assigned.
        """
        snapshot: BrokerSnapshot = await self._thread.call_thread(self._snapshot, partitions)
        return snapshot

    async def _snapshot(self, wanted: Collection[Partition]) -> BrokerSnapshot:
        consumer = self._thread._ensure_consumer()
        thread: Any = self._thread
        refused = thread.client.join_refused
        self._raise_stored_error(consumer._coordinator, refused)
        partitions = [TopicPartition(*partition) for partition in wanted]
        async with asyncio.timeout(_RESPONSE_SECONDS):
            # At the same time, as each may have to wait 1.5 s behind a fetch for new events.
            topics, starts, ends = await asyncio.gather(
                consumer.topics(), consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
            )
            positions = {partition: await consumer.position(partition) for partition in partitions}
        by_partition = ({Partition(*tp): at for tp, at in each.items()} for each in (starts, ends, positions))
        return BrokerSnapshot(topics, *by_partition, join_refused=refused)

    def _raise_stored_error(self, coordinator: Any, join_refused: int) -> None:
        """Raise an error that aiokafka keeps for its caller; once it is taken, aiokafka joins again.

        Raises:
            KafkaError: the error, unless it is that joining was refused.
        """
        try:
            coordinator.check_errors()
        except KafkaError as error:
            if coordinator._coordination_task.done():
                self._hooks.fail(MembershipLostError(str(error)))
            if not join_refused:
                raise
