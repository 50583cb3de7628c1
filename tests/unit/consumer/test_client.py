"""What is added to aiokafka's client, under aiokafka's own group coordinator and without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import (
    KafkaError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol.commit import OffsetFetchResponse_v1, OffsetFetchResponse_v3
from aiokafka.protocol.fetch import FetchRequest, FetchResponse_v4
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from lakefeed_consumer.client import CheckedClient
from lakefeed_consumer.topic_ids import MetadataAnswer, TopicIdsRequest, topic_ids

ONE = TopicPartition("t", 0)
OUT_OF_RANGE, LOADING, MOVED, GROUP_REFUSED = 1, 14, 16, 30


class Group:
    """aiokafka's coordinator of a group whose broker answers as a list says; the last answer stays."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.lookups = 0
        client: Any = AIOKafkaClient()
        client.send = self._answer
        client.coordinator_lookup = self._lookup
        client.ready = self._ready
        self.outside: list[tuple[TopicPartition, int]] = []
        CheckedClient(client, self._out_of_range)
        self.client = client
        self.coordinator: Any = GroupCoordinator(
            client, SubscriptionState(), group_id="g", retry_backoff_ms=1, enable_auto_commit=False
        )

    async def _answer(self, node: int, request: Any, **_: Any) -> Any:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def _out_of_range(self, partition: TopicPartition, offset: int) -> None:
        self.outside.append((partition, offset))

    async def _lookup(self, *_: Any) -> int:
        self.lookups += 1
        return 1

    async def _ready(self, *_: Any, **__: Any) -> bool:
        return True


def run(scenario: Callable[[Group], Awaitable[None]], *answers: Any) -> None:
    async def whole() -> None:
        group = Group(*answers)
        try:
            await scenario(group)
        finally:
            await group.coordinator.close()

    asyncio.run(whole())


def failed(code: int) -> Any:
    return OffsetFetchResponse_v3(0, [], code)


def partition(offset: int, code: int = 0) -> Any:
    return OffsetFetchResponse_v3(0, [("t", [(0, offset, "", code)])], 0)


@pytest.mark.parametrize("code", [LOADING, MOVED])
def test_a_coordinator_that_moves_or_loads_is_asked_again(code: int) -> None:
    async def scenario(group: Group) -> None:
        assert await group.coordinator.fetch_committed_offsets([ONE]) == {ONE: OffsetAndMetadata(7, "")}
        assert group.lookups > 1, "it may be another broker by now"

    run(scenario, failed(code), failed(code), partition(7))


def test_a_partition_that_the_coordinator_does_not_know_yet_is_asked_for_again() -> None:
    async def scenario(group: Group) -> None:
        assert await group.coordinator.fetch_committed_offsets([ONE]) == {ONE: OffsetAndMetadata(7, "")}

    run(scenario, partition(-1, UnknownTopicOrPartitionError.errno), partition(7))


@pytest.mark.parametrize(
    "answer",
    [failed(GROUP_REFUSED), partition(-1, GROUP_REFUSED), partition(-1, TopicAuthorizationFailedError.errno)],
)
def test_a_right_that_is_missing_is_an_error(answer: Any) -> None:
    async def scenario(group: Group) -> None:
        with pytest.raises(KafkaError, match="Authorization"):
            await group.coordinator.fetch_committed_offsets([ONE])

    run(scenario, answer)


@pytest.mark.parametrize("answer", [partition(-1), OffsetFetchResponse_v1([("t", [(0, -1, "", 0)])])])
def test_no_commit_is_no_commit(answer: Any) -> None:
    async def scenario(group: Group) -> None:
        assert await group.coordinator.fetch_committed_offsets([ONE]) == {}

    run(scenario, answer)


def test_the_positions_of_a_new_assignment_are_not_taken_from_an_error() -> None:
    async def scenario(group: Group) -> None:
        subscription = group.coordinator._subscription
        subscription.assign_from_user([ONE])
        assignment = subscription.subscription.assignment
        waiting = asyncio.ensure_future(assignment.state_value(ONE).fetch_committed())
        await asyncio.sleep(0)
        await group.coordinator.ensure_coordinator_known()
        assert not await group.coordinator._maybe_refresh_commit_offsets(assignment)
        assert not waiting.done()
        await group.coordinator.ensure_coordinator_known()
        assert await group.coordinator._maybe_refresh_commit_offsets(assignment)
        assert (await waiting).offset == 7

    run(scenario, failed(MOVED), partition(7))


def test_an_offset_that_the_log_does_not_have_is_reported_before_another_is_taken() -> None:
    async def scenario(group: Group) -> None:
        asked = FetchRequest(100, 1, 1000, 1, [("t", [(0, 1000, 1), (1, 5, 1)]), ("u", [(0, 7, 1)])])
        answer = await group.client.send(1, asked)
        assert answer is group.answers[0]
        assert group.outside == [(ONE, 1000)]

    def fetched(number: int, code: int) -> tuple[Any, ...]:
        return number, code, 0, 0, [], b""

    answer = FetchResponse_v4(0, [("t", [fetched(0, OUT_OF_RANGE), fetched(1, 0)]), ("u", [fetched(0, 6)])])
    run(scenario, answer)


def topic(code: int, name: str, topic_id: bytes) -> tuple[Any, ...]:
    return (code, name, topic_id, False, [(0, 0, 1, 5, [1, 2], [1], [2], {})], 0, {})


def metadata(*topics: Any) -> Any:
    brokers: list[tuple[Any, ...]] = [(1, "one", 9092, None, {}), (2, "two", 9092, "rack", {})]
    whole = MetadataAnswer(0, brokers, "cluster", 1, list(topics), 0, {})
    return MetadataAnswer.decode(BytesIO(whole.encode()))


def test_topics_have_ids() -> None:
    async def scenario(group: Group) -> None:
        assert await topic_ids(group.coordinator, ["a", "b"]) == {"a": b"0123456789abcdef", "b": None}

    run(scenario, metadata(topic(0, "a", b"0123456789abcdef"), topic(3, "b", bytes(16))))


def test_topics_without_ids() -> None:
    async def scenario(group: Group) -> None:
        with pytest.raises(NotImplementedError):
            await topic_ids(group.coordinator, ["a"])

    run(scenario, metadata(topic(0, "a", bytes(16))))


def test_a_topic_that_is_not_ours_to_see_is_an_error_and_not_a_deleted_one() -> None:
    async def scenario(group: Group) -> None:
        with pytest.raises(TopicAuthorizationFailedError):
            await topic_ids(group.coordinator, ["a"])

    run(scenario, metadata(topic(29, "a", bytes(16))))


def test_the_request_for_ids_is_of_the_version_that_has_them() -> None:
    request = TopicIdsRequest(["a"]).prepare({3: (0, 12)})
    assert request.encode() == b"\x02" + bytes(16) + b"\x02a\x00" + b"\x00\x00\x00" + b"\x00"
    with pytest.raises(NotImplementedError):
        TopicIdsRequest(["a"]).prepare({3: (0, 9)})
