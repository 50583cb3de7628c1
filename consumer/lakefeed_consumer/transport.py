"""Faust's Kafka transport: records in batches, and commits of what the sink has stored and of nothing else.

Faust's own bookkeeping commits past events in flight when offsets have gaps, forgets what it was about to
commit when partitions are revoked, takes a failed commit for done, and stops the worker over a commit that
the broker refuses: docs/decisions/0016-commits-of-our-own.md. And its way to the agent costs each message
more than all that is done with an event: docs/decisions/0022-batches-under-faust.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from lakefeed_common import kafka_client
from lakefeed_consumer.backlog import Backlog
from lakefeed_consumer.client import CheckedClient
from lakefeed_consumer.commits import Commits, PartitionKey
from lakefeed_consumer.records import Partition, Record
from lakefeed_consumer.topic_ids import topic_ids

log = logging.getLogger("lakefeed_consumer")

# Faust's thread serves two calls at a time: none may hold its place for long.
_ANSWER_SECONDS = 10.0
# Nothing more is fetched while the agent has not taken so much of what was. A batch in its hands and one
# behind it keep it busy.
_MOST_WAITING = 4_000
_MOST_WAITING_BYTES = 32 * 1024 * 1024


class TopicMadeAnewError(Exception):
    """The topic was deleted and made again while it was read: the offsets of before mean other events now."""


class MembershipLostError(Exception):
    """aiokafka has given up its membership of the group for good; another client has to join."""


@dataclass(frozen=True)
class Look:
    """What the broker says now.

    Attributes:
        topics: names of all topics that this user may see.
        starts, ends: first offset, and the one after the last, of each partition asked for.
        positions: offset that is fetched next, of each partition asked for.
        join_refused: error code of the coordinator's last answer to our joining if that was fatal, else 0.
    """

    topics: Collection[str]
    starts: dict[TP, int]
    ends: dict[TP, int]
    positions: dict[TP, int]
    join_refused: int = field(default=0, kw_only=True)


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's thread with aiokafka's consumer in it.

    Attributes:
        checks: what stands between aiokafka's consumer and its client.
    """

    checks: CheckedClient

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # What a producer took back was never an event. Faust ties this to transactions of its own.
        consumer._isolation_level = "read_committed"

        def fetch_offset(partition: TopicPartition) -> int | None:
            assignment = consumer._subscription.subscription.assignment
            held = assignment is not None and partition in assignment.tps
            return assignment.state_value(partition).position if held else None

        async def out_of_range(partition: TopicPartition, offset: int) -> None:
            starts = await consumer.beginning_offsets([partition])
            transport.out_of_range(TP(*partition), offset, starts[partition])

        self.checks = CheckedClient(consumer._client, fetch_offset, out_of_range)
        return consumer


class _NoReadOffsets(dict[TP, None]):
    """Faust drops what comes below the offset it read last: events, after a reset to the log's start."""

    def __missing__(self, tp: TP) -> None:
        return None

    def __setitem__(self, tp: TP, offset: object) -> None:
        return


class Consumer(driver.Consumer):
    """A member of the group that commits what `stored` was told."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_offset: Any = _NoReadOffsets()
        # Faust's own lists of this kind are gone before a rebalance's last commit.
        self._commits = Commits()
        self._backlog = Backlog(_MOST_WAITING, _MOST_WAITING_BYTES)
        # Of the topics whose offsets the group had when they were asked for.
        self._topic_ids: dict[str, bytes | None] = {}

    def _new_consumer_thread(self) -> ConsumerThread:
        thread = ConsumerThread(self, loop=self.loop, beacon=self.beacon)
        kafka_client.quiet_lost_connections(thread.thread_loop)
        return thread

    # ---- from the broker to the agent -------------------------------------------------------------

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        if self._backlog.full:
            await self._backlog.wait(timeout)
            return {}
        return await super()._getmany(active_partitions, timeout)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        return self._message_of(tp, [record])

    def _message_of(self, tp: TP, fetched: Sequence[Any]) -> ConsumerMessage:
        """aiokafka's records of a partition, in order, as the one message of them that the agent gets."""
        partition = Partition(*tp)
        # Faust calls a message's value bytes; only the topic's schema looks at it.
        records: Any = [
            # What was written before records had a timestamp has none.
            Record(partition, r.offset, -1 if r.timestamp is None else r.timestamp, r.key, r.value, r.headers)
            for r in fetched
        ]
        size = sum(r.serialized_value_size for r in fetched)
        self._commits.hand(tp, fetched[-1].offset)
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

    def taken(self, message: Any) -> None:
        """Take note that a message's records wait no more."""
        self._backlog.take(len(message.value), message.serialized_value_size)

    # ---- what is stored and committed -------------------------------------------------------------

    def stored(self, tp: TP, offset: int) -> None:
        """Take note that everything of a partition up to an offset is stored."""
        self._commits.store(tp, offset)

    def forget(self, tps: Collection[TP]) -> None:
        """Commit nothing more of these partitions."""
        self._commits.forget(tps)
        # A rebalance takes all partitions away, and Faust throws away what waits.
        self._backlog.clear()

    def committed(self, tp: TP) -> int | None:
        """Offset that is read next after a restart, as far as this worker knows; None before a commit."""
        return self._commits.committed(tp)

    def undelivered(self, tp: TP) -> bool:
        """Whether Faust was given an event of this partition that is not stored yet."""
        return self._commits.undelivered(tp)

    async def force_commit(self, *_: Any, **__: Any) -> bool:
        """Commit what is stored and not committed yet, of whatever topic; Faust makes one call at a time."""
        commits = self._commits
        # Faust asks also when it stops before it has started, and then there is no assignment.
        offsets = commits.due(self.assignment()) if commits.any_stored else {}
        if not offsets:
            return False
        try:
            forgotten = await self._thread.call_thread(
                self._commit_unless_forgotten, offsets, commits.committed_before(offsets)
            )
        except CommitFailedError:
            return False  # the partitions are others' by now, and who has them reads these events again
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            if commits.fail():
                log.warning("offsets cannot be committed now, and are again later: %r", error)
            return False
        if forgotten:
            self._end_over(forgotten)
            return False
        commits.succeed(offsets)
        return True

    async def _commit_unless_forgotten(
        self, offsets: dict[PartitionKey, int], before: set[PartitionKey]
    ) -> set[PartitionKey]:
        """Commit in the thread of aiokafka; or return those partitions whose topic was recreated.

        A broker removes a group's offsets together with the topic. Without this check an offset of the old
        topic would be committed in the new one, over events that no consumer has stored.
        """
        consumer = self._thread._ensure_consumer()
        async with asyncio.timeout(_ANSWER_SECONDS):
            known = await consumer._coordinator.fetch_committed_offsets(
                [TopicPartition(*tp) for tp in before]
            )
            missing = before - {tuple(tp) for tp, found in known.items() if found.offset >= 0}
            forgotten = await self._recreated(missing) if missing else set()
            if not forgotten:
                await self._learn_topic_ids({topic for topic, _ in before})
                await consumer.commit(
                    {TopicPartition(*tp): OffsetAndMetadata(at, "") for tp, at in offsets.items()}
                )
        for topic, number in sorted(missing - forgotten):
            log.warning(
                "the broker has lost what was committed of %s, partition %d, and keeps the topic: the offset "
                "is committed again. Check the replicas of __consumer_offsets",
                topic,
                number,
            )
        return forgotten

    async def _recreated(self, partitions: set[PartitionKey]) -> set[PartitionKey]:
        """Those of some partitions whose topic has another id than before, or no known one.

        Where ids are not to be had a topic counts as recreated: to read events again loses none.
        """
        now = await self._ask_topic_ids({topic for topic, _ in partitions})
        was = self._topic_ids
        return {tp for tp in partitions if was.get(tp[0]) is None or now[tp[0]] != was[tp[0]]}

    async def _learn_topic_ids(self, topics: set[str]) -> None:
        unknown = topics - self._topic_ids.keys()
        if unknown:
            self._topic_ids |= await self._ask_topic_ids(unknown)

    async def _ask_topic_ids(self, topics: Collection[str]) -> dict[str, bytes | None]:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await topic_ids(self._thread._ensure_consumer()._coordinator, topics)
        except NotImplementedError:  # a broker older than Kafka 2.8
            return dict.fromkeys(topics)

    def _end_over(self, forgotten: set[PartitionKey]) -> None:
        self._commits.end()
        topic, number = min(forgotten)
        self._end(
            TopicMadeAnewError(f"the broker has forgotten what was committed of {topic}, partition {number}")
        )

    def _end(self, error: Exception) -> None:
        """Have the feeder end with an error; from whichever thread."""
        transport: Any = self.transport
        lost = transport.lost

        def end() -> None:
            if not lost.done():
                lost.set_exception(error)

        lost.get_loop().call_soon_threadsafe(end)

    # ---- where Faust would lose or delay ----------------------------------------------------------

    async def perform_seek(self) -> None:
        """Go back to what is committed; where nothing is, to the start.

        Faust stays where it is without a commit, after it has thrown away what it had fetched.
        """
        found = await self._thread.call_thread(self._seek_all)
        self._commits.resume(found)

    async def _seek_all(self) -> dict[Any, int | None]:
        consumer = self._thread._ensure_consumer()
        # Before the offsets: those of a topic that is recreated in between are gone, and not another's.
        self._topic_ids = {}
        try:
            await self._learn_topic_ids({tp.topic for tp in self.assignment()})
        except (KafkaError, TimeoutError) as error:
            log.info("ids of topics are asked for again with the next commit: %r", error)
        found: dict[Any, int | None] = await consumer.seek_to_committed()
        never = [tp for tp, offset in found.items() if offset is None]
        if never:
            for tp, start in (await consumer.beginning_offsets(never)).items():
                consumer.seek(tp, start)
        for tp, offset in found.items():
            if offset == 0:  # which aiokafka does not seek to
                consumer.seek(tp, offset)
        return found

    async def wait_empty(self) -> None:
        """Wait until all that was taken is stored, `drain_seconds` at the most, and commit.

        Faust waits without a limit; with the bucket away that would cost the membership, or the stop.
        """
        transport: Any = self.transport
        # Faust calls this again when it stops for good, and nothing can be stored by then.
        if not self.should_stop:
            count = await transport.drain(transport.drain_seconds)
            if count:
                log.warning(
                    "%d events are not stored after %g s and will be read again",
                    count,
                    transport.drain_seconds,
                )
        await self.commit_and_end_transactions()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: liveness sees a worker that stands still, and lag one that is slow."""

    # ---- what is going on ---------------------------------------------------------------------------

    def in_thread(self, call: Callable[[], None]) -> None:
        """Have a function called by the thread that speaks to the broker, when that comes round.

        Raises:
            RuntimeError: the thread has ended.
        """
        self._thread.thread_loop.call_soon_threadsafe(call)

    async def look(self, tps: Collection[TP]) -> Look:
        """Ask the broker for its topics, and where some partitions begin and end.

        Raises:
            KafkaError, OSError, TimeoutError: it does not answer, or a partition is not ours any more.
        """
        look: Look = await self._thread.call_thread(self._look, tps)
        return look

    async def _look(self, tps: Collection[TP]) -> Look:
        consumer = self._thread._ensure_consumer()
        thread: Any = self._thread
        refused = thread.checks.join_refused
        self._take_error(consumer._coordinator, refused)
        partitions = [driver.ensure_aiokafka_TP(tp) for tp in tps]
        async with asyncio.timeout(_ANSWER_SECONDS):
            # At the same time, as each may have to wait behind a fetch for new events: 1.5 s.
            topics, starts, ends = await asyncio.gather(
                consumer.topics(), consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
            )
            positions = {partition: await consumer.position(partition) for partition in partitions}
        by_partition = ({TP(*tp): at for tp, at in each.items()} for each in (starts, ends, positions))
        return Look(topics, *by_partition, join_refused=refused)

    def _take_error(self, coordinator: Any, join_refused: int) -> None:
        """Take an error that aiokafka keeps for its caller; when it is taken, aiokafka joins again.

        Raises:
            KafkaError: the error, unless it is that joining was refused.
        """
        try:
            coordinator.check_errors()
        except KafkaError as error:
            if coordinator._coordination_task.done():
                self._end(MembershipLostError(str(error)))
            if not join_refused:
                raise


class BatchConsumer(Consumer):
    """Makes one message of all records that were fetched of a partition, where Faust makes one of each."""

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Fetch, and give out by partition; as Faust does, unless a rebalance takes the partitions away."""
        fetched, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if not fetched or self.should_stop:
            return
        if not self.flow_active:
            # Kafka's client takes for read what is dropped here.
            await self._go_back()
            return
        for tp, records in fetched.items():
            # Between two batches a rebalance may begin, and end.
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if active and tp in active:
                yield tp, self._message_of(tp, records)

    async def _go_back(self) -> None:
        try:
            await self.perform_seek()
        except Exception as error:
            log.info("back to what is committed with the end of the rebalance: %r", error)


class Transport(driver.Transport):
    """Makes consumers that give the agent batches.

    Attributes:
        drain: waits so many seconds for what is in flight, and returns how many events still are.
        drain_seconds: for how long a stop or a rebalance waits.
        lost: fails when the offsets mean other events than before, or the membership cannot be had back.
        out_of_range: called, in aiokafka's thread, when the log lacks the offset to be fetched: with the
            partition, that offset, and the log's start, from which it is read then.
    """

    Consumer: ClassVar[type[Consumer]] = BatchConsumer
    drain: Callable[[float], Awaitable[int]]
    drain_seconds: float
    lost: asyncio.Future[None]
    out_of_range: Callable[[TP, int, int], None]


class EventTransport(Transport):
    """Makes consumers that give the agent each record as a message of its own, Faust's way."""

    Consumer = Consumer
