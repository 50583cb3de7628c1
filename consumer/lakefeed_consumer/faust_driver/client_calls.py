"""Calls of aiokafka's consumer that have to be made in its own thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Any

from aiokafka.consumer.fetcher import OffsetResetStrategy
from aiokafka.errors import IllegalStateError, KafkaError, KafkaTimeoutError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from lakefeed_common.lake.records import Partition
from lakefeed_consumer.faust_driver.commits import PartitionKey
from lakefeed_consumer.faust_driver.errors import MembershipLostError
from lakefeed_consumer.faust_driver.snapshot import BrokerSnapshot
from lakefeed_consumer.faust_driver.topic_ids import TopicIds

# Not this module's name: see `group_consumer`.
log = logging.getLogger("lakefeed_consumer")

# Faust's thread serves two calls at a time, so none may occupy it for long.
_RESPONSE_SECONDS = 10.0


class ClientCalls:
    """Commits, seeks and snapshots.

    Args:
        thread: a `ConsumerThread`; its aiokafka consumer is used.
        fail: ends the membership with an error.
    """

    def __init__(self, thread: Any, fail: Callable[[Exception], None]) -> None:
        self._thread = thread
        self._fail = fail
        self._topic_ids = TopicIds()

    async def commit_unless_recreated(
        self, offsets: dict[PartitionKey, int], before: set[PartitionKey]
    ) -> set[PartitionKey]:
        """Commit offsets; or return those partitions whose topic was recreated.

        A broker deletes a group's offsets together with the topic. Without this check an offset of the old
        topic would be committed in the new one, past events that no consumer has stored.

        Args:
            offsets: what to commit.
            before: those of its partitions for which the broker must still have a committed offset.

        Raises:
            KafkaError, IllegalStateError, TimeoutError: the broker did not commit.
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

    async def seek(self, assigned: Collection[PartitionKey]) -> dict[PartitionKey, int | None]:
        """Seek to the committed offsets, and to the start where there is no commit.

        Returns:
            The committed offset of each partition; None where there is no commit.

        Raises:
            KafkaError: the coordinator does not answer, or a partition is no longer assigned.
        """
        consumer = self._thread._ensure_consumer()
        coordinator = consumer._coordinator
        # Before the offsets: if a topic is recreated in between, its offsets are gone and not another's.
        self._topic_ids.clear()
        try:
            async with asyncio.timeout(_RESPONSE_SECONDS):
                await self._topic_ids.learn(coordinator, {topic for topic, _ in assigned})
        except (KafkaError, TimeoutError) as error:
            log.info("Topic IDs are not available now and are requested with the next commit: %r", error)
        partitions = [TopicPartition(*tp) for tp in assigned]
        try:
            async with asyncio.timeout(_RESPONSE_SECONDS):
                known = await coordinator.fetch_committed_offsets(partitions)
        except TimeoutError:
            raise KafkaTimeoutError("the coordinator does not return the group's offsets") from None
        if not consumer.assignment().issuperset(partitions):
            raise IllegalStateError("the partitions were revoked meanwhile")
        committed = {tp: known[tp].offset for tp in partitions if tp in known and known[tp].offset >= 0}
        for tp, offset in committed.items():
            consumer.seek(tp, offset)
        # Not awaited: a partition whose leader is unavailable must not hold up the others.
        consumer._fetcher.request_offset_reset(
            [tp for tp in partitions if tp not in committed], OffsetResetStrategy.EARLIEST
        )
        return {tuple(tp): committed.get(tp) for tp in partitions}

    async def snapshot(self, wanted: Collection[Partition]) -> BrokerSnapshot:
        """See `GroupConsumer.snapshot`."""
        consumer = self._thread._ensure_consumer()
        refused = self._thread.client.join_refused
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
                self._fail(MembershipLostError(str(error)))
            if not join_refused:
                raise
