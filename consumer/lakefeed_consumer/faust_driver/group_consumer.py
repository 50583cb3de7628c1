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
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from lakefeed_common import kafka_client
from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.faust_driver.backlog import Backlog
from lakefeed_consumer.faust_driver.client_calls import ClientCalls
from lakefeed_consumer.faust_driver.commits import Commits, PartitionKey
from lakefeed_consumer.faust_driver.consumer_thread import ConsumerThread
from lakefeed_consumer.faust_driver.errors import TopicRecreatedError
from lakefeed_consumer.faust_driver.hooks import Hooks
from lakefeed_consumer.faust_driver.snapshot import BrokerSnapshot

# Not this module's name: Faust logs under that, at INFO, what the consumer reports itself.
log = logging.getLogger("lakefeed_consumer")

# Fetching pauses while this much is not taken by the agent. One batch being stored and one behind it keep
# the agent busy.
_MAX_BACKLOG_RECORDS = 4_000
_MAX_BACKLOG_BYTES = 32 * 1024 * 1024
_SEEK_PAUSE_SECONDS = 0.5


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
        # How often aiokafka's positions may have come to differ from the committed offsets: by an assignment,
        # or by a drop of fetched records, which count as read for aiokafka. And how often before the last
        # seek.
        self._displacements = self._sought = 0
        self._seek_error: Exception | None = None
        self._backlog = Backlog(_MAX_BACKLOG_RECORDS, _MAX_BACKLOG_BYTES)
        self._calls = ClientCalls(self._thread, lambda error: self._hooks.fail(error))

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
        for tp, records in (fetched or {}).items():
            # A rebalance may begin, and end, between two batches.
            is_current = self.flow_active and self.app.consumer_generation_id == generation
            if is_current and not (self.should_stop or self._must_seek) and active and tp in active:
                yield tp, self._batch_message(tp, records)
            else:
                self._displacements += 1

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        if self._backlog.full:
            await self._backlog.wait(timeout)
            return {}
        if self._must_seek and not await self._seek_committed():
            return {}
        return await super()._getmany(active_partitions, timeout)

    @property
    def _must_seek(self) -> bool:
        return self._sought != self._displacements

    def _batch_message(self, tp: TP, fetched: Sequence[Record]) -> ConsumerMessage:
        """The records of a partition, in order, as one message for the agent."""
        # Faust declares a message's value as bytes; only the topic's schema reads it.
        records: Any = fetched
        size = sum(len(record.value) for record in fetched if record.value is not None)
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
        self._displacements += 1
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
                self._calls.commit_unless_recreated, offsets, commits.committed_before(offsets)
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

    def _end_commits(self, recreated: set[PartitionKey]) -> None:
        self._commits.end()
        topic, number = min(recreated)
        self._hooks.fail(
            TopicRecreatedError(f"{topic}, partition {number}: the broker no longer has the committed offset")
        )

    # ---- rebalances, in which Faust would lose or delay events ------------------------------------

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Deliver nothing before the seek.

        Faust stops the flow only if partitions are revoked, and not of a member that had none. At the end of
        the rebalance it resumes the flow, and clears what was delivered before.
        """
        self._displacements += 1
        self._seek_error = None
        self.stop_flow()
        await super().on_partitions_assigned(assigned, generation_id)

    async def perform_seek(self) -> None:
        """Do nothing: `_getmany` seeks before it fetches.

        Faust seeks one partition after the other while a fetch that began before the rebalance can still
        return records, continues without a seek after a timeout, and stops the worker if it fails.
        """

    async def _seek_committed(self) -> bool:
        """Seek to the committed offsets, and to the start where there is no commit.

        Faust would keep the position of a partition without a commit, after dropping what it had fetched.

        Returns:
            Whether all partitions that are assigned now are at their committed offsets.
        """
        begun = self._displacements
        try:
            committed = await self._thread.call_thread(self._calls.seek, self.assignment())
        except (KafkaError, OSError) as error:
            if self._seek_error is None:
                log.warning("Seeking to the committed offsets fails, and is retried: %r", error)
            self._seek_error = error
            await asyncio.sleep(_SEEK_PAUSE_SECONDS)
            return False
        self._seek_error = None
        if begun != self._displacements:
            return False
        self._sought = begun
        self._commits.resume(committed)
        self._hooks.resume({Partition(*tp): offset or 0 for tp, offset in committed.items()})
        return True

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
            KafkaError, OSError, TimeoutError: it does not answer, nothing can be fetched because it does not
                return the committed offsets, or a partition is no longer assigned.
        """
        if self._seek_error is not None:
            raise self._seek_error
        snapshot: BrokerSnapshot = await self._thread.call_thread(self._calls.snapshot, partitions)
        return snapshot
