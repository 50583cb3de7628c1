"""The consumer's Faust driver over a Kafka client in memory: no thread, no broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import faust
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.types import TP

from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.faust_driver.group_consumer import GroupConsumer
from lakefeed_consumer.faust_driver.hooks import Hooks
from lakefeed_consumer.faust_driver.topic_ids import TopicIdsRequest
from lakefeed_consumer.faust_driver.transport import Transport


class FakeKafkaClient:
    """What the driver uses of aiokafka's consumer.

    Attributes:
        log: first offset and the one after the last, of each partition there is.
        group: what the group has committed.
        commits: every commit that was accepted, in order.
        refuse: raised instead of committing, one after the other.
        before_commit: called when a commit arrives.
        topic_ids: of the topics there are; None where the broker is too old for ids.
        error: what the coordinator keeps for its caller; permanently once `given_up`.
        given_up: whether it has ended its membership.
        assigned: partitions of the member.
    """

    def __init__(self, log: dict[TP, tuple[int, int]]) -> None:
        self.log = log
        self.group: dict[tuple[str, int], int] = {}
        self.commits: list[dict[tuple[str, int], int]] = []
        self.refuse: list[Exception] = []
        self.before_commit: Callable[[], None] = lambda: None
        self.positions: dict[tuple[str, int], int] = {}
        self.topic_ids: dict[str, bytes] | None = {tp.topic: bytes(15) + b"1" for tp in log}
        self.error: Exception | None = None
        self.given_up = False
        self.assigned: set[tuple[str, int]] = set(log)
        self._fetcher = SimpleNamespace(request_offset_reset=self._reset)
        self._coordinator = SimpleNamespace(
            fetch_committed_offsets=self.fetch_committed_offsets,
            ensure_coordinator_known=self._coordinator_is_known,
            coordinator_id=1,
            check_errors=self._check_errors,
            _coordination_task=SimpleNamespace(done=lambda: self.given_up),
            _client=SimpleNamespace(send=self._metadata),
        )

    def _check_errors(self) -> None:
        error = self.error
        if not self.given_up:
            self.error = None
        if error is not None:
            raise error

    async def _coordinator_is_known(self) -> None:
        return

    async def _metadata(self, _: int, request: TopicIdsRequest, **__: Any) -> Any:
        ids = self.topic_ids
        if ids is None:
            raise NotImplementedError
        codes = ((0 if topic in ids else 3, topic, ids.get(topic, bytes(16))) for topic in request.topics)
        return SimpleNamespace(topics=list(codes))

    async def fetch_committed_offsets(
        self, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        return {each: OffsetAndMetadata(self.group[each], "") for each in partitions if each in self.group}

    async def commit(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        self.before_commit()
        if self.refuse:
            raise self.refuse.pop(0)
        accepted: dict[tuple[str, int], int] = {each: found.offset for each, found in offsets.items()}
        self.group |= accepted
        self.commits.append(accepted)

    def assignment(self) -> set[tuple[str, int]]:
        return self.assigned

    def _reset(self, partitions: Iterable[TopicPartition], _: int) -> None:
        self.positions |= {each: self.log[each][0] for each in partitions}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.positions[partition] = offset

    async def topics(self) -> set[str]:
        return {each.topic for each in self.log}

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {each: self.log[each][0] for each in partitions}

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {each: self.log[each][1] for each in partitions}

    async def position(self, partition: TopicPartition) -> int:
        return self.positions[partition]


class _Thread:
    """Calls at once what Faust's thread would call when it comes round."""

    def __init__(self, client: FakeKafkaClient) -> None:
        self.kafka = client
        self.client = SimpleNamespace(join_refused=0)
        self.fetched: list[dict[TP, Sequence[Any]]] = []
        self.beacon: Any = None

    async def call_thread(self, call: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        return await call(*args)

    def _ensure_consumer(self) -> FakeKafkaClient:
        return self.kafka

    def assignment(self) -> set[tuple[str, int]]:
        return set(self.kafka.assigned)

    async def getmany(self, active: set[TP] | None, timeout: float) -> dict[TP, Sequence[Any]]:
        fetched = self.fetched.pop(0) if self.fetched else {}
        self.kafka.positions |= {tp: records[-1].offset + 1 for tp, records in fetched.items()}
        return fetched


class InMemory:
    """A consumer with some partitions assigned, within a running event loop.

    Attributes:
        consumer: the one under test.
        client: the Kafka client below it.
        drain: what the consumer calls, with 2.5 seconds, to wait for events in flight.
        resumed: where the consumer said, after each seek, that partitions are read from.
        lost: fails when the offsets refer to other records.
    """

    def __init__(self, log: dict[TP, tuple[int, int]]) -> None:
        loop = asyncio.get_running_loop()
        self.client = FakeKafkaClient(log)
        thread = self.thread = _Thread(self.client)
        self.app: Any = faust.App("in-memory", web_enabled=False)
        self.transport = Transport(self.app.conf.broker, self.app, loop=loop)
        self.lost: asyncio.Future[None] = loop.create_future()
        self.resumed: list[Mapping[Partition, int]] = []
        self.drain: Callable[[float], Awaitable[int]] = self._nothing_in_flight
        self.transport.hooks = Hooks(
            lambda seconds: self.drain(seconds), 2.5, self.resumed.append, self.lost, lambda *_: None
        )
        self.app.transport = self.transport

        class Consumer(GroupConsumer):
            def _new_consumer_thread(self) -> Any:
                return thread

            def add_dependency(self, service: Any) -> Any:
                return service

        self.consumer: Any = Consumer(
            self.transport, self._never, self._never, self._assigned, loop=loop, beacon=self.app.beacon
        )
        self.assign(set(log))

    async def _nothing_in_flight(self, _: float) -> int:
        return 0

    async def _never(self, *_: object) -> None:
        raise AssertionError("Faust calls this only while it runs")

    async def _assigned(self, *_: object) -> None:
        return

    async def rejoin(self) -> None:
        """Let a rebalance end that assigns the same partitions, and the next fetch bring nothing."""
        await self.consumer.on_partitions_assigned(self.client.assigned)
        self.consumer.resume_flow()
        assert [message async for message in self.consumer.getmany(0.01)] == []

    def assign(self, partitions: set[TP]) -> None:
        """Give the member these partitions and no others."""
        self.client.assigned = set(partitions)
        self.consumer._set_active_tps(partitions)

    def fetch(self, partition: TP, offsets: Iterable[int]) -> None:
        """Let the next fetch bring records of these offsets, of 2 bytes each."""
        records = [Record(Partition(*partition), offset, 0, None, b"{}") for offset in offsets]
        self.thread.fetched.append({partition: records})
