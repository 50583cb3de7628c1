"""The checked client under aiokafka's own group coordinator, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NotLeaderForPartitionError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol.commit import OffsetFetchResponse_v1, OffsetFetchResponse_v3
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from lakefeed_consumer.faust_driver import checked_client
from lakefeed_consumer.faust_driver.checked_client import CheckedClient
from lakefeed_consumer.faust_driver.topic_ids import MetadataResponse, TopicIdsRequest, request_topic_ids

ONE = TopicPartition("t", 0)
LOADING, MOVED, GROUP_REFUSED = 14, 16, 30


class Group:
    """aiokafka's coordinator of a group; the broker's responses come from a list, the last one repeatedly."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.lookups = 0
        client: Any = AIOKafkaClient()
        client.send = self._answer
        client.coordinator_lookup = self._lookup
        client.ready = self._ready
        CheckedClient(client, {}.get, self._never)
        self.coordinator: Any = GroupCoordinator(
            client, SubscriptionState(), group_id="g", retry_backoff_ms=1, enable_auto_commit=False
        )

    async def _answer(self, node: int, request: Any, **_: Any) -> Any:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def _never(self, *_: object) -> None:
        raise AssertionError("nothing is out of range")

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
def test_a_request_is_retried_while_the_coordinator_moves_or_loads(code: int) -> None:
    async def scenario(group: Group) -> None:
        assert await group.coordinator.fetch_committed_offsets([ONE]) == {ONE: OffsetAndMetadata(7, "")}
        assert group.lookups > 1, "it may be another broker by now"

    run(scenario, failed(code), failed(code), partition(7))


def test_a_request_is_retried_while_the_coordinator_does_not_know_a_partition() -> None:
    async def scenario(group: Group) -> None:
        assert await group.coordinator.fetch_committed_offsets([ONE]) == {ONE: OffsetAndMetadata(7, "")}

    run(scenario, partition(-1, UnknownTopicOrPartitionError.errno), partition(7))


@pytest.mark.parametrize(
    "answer",
    [failed(GROUP_REFUSED), partition(-1, GROUP_REFUSED), partition(-1, TopicAuthorizationFailedError.errno)],
)
def test_a_missing_permission_is_an_error(answer: Any) -> None:
    async def scenario(group: Group) -> None:
        with pytest.raises(KafkaError, match="Authorization"):
            await group.coordinator.fetch_committed_offsets([ONE])

    run(scenario, answer)


@pytest.mark.parametrize("answer", [partition(-1), OffsetFetchResponse_v1([("t", [(0, -1, "", 0)])])])
def test_a_response_without_a_commit_is_not_an_error(answer: Any) -> None:
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


def topic(code: int, name: str, topic_id: bytes) -> tuple[Any, ...]:
    return (code, name, topic_id, False, [(0, 0, 1, 5, [1, 2], [1], [2], {})], 0, {})


def metadata(*topics: Any) -> Any:
    brokers: list[tuple[Any, ...]] = [(1, "one", 9092, None, {}), (2, "two", 9092, "rack", {})]
    whole = MetadataResponse(0, brokers, "cluster", 1, list(topics), 0, {})
    return MetadataResponse.decode(BytesIO(whole.encode()))


def test_topics_have_ids() -> None:
    async def scenario(group: Group) -> None:
        assert await request_topic_ids(group.coordinator, ["a", "b"]) == {"a": b"0123456789abcdef", "b": None}

    run(scenario, metadata(topic(0, "a", b"0123456789abcdef"), topic(3, "b", bytes(16))))


def test_topics_without_ids() -> None:
    async def scenario(group: Group) -> None:
        with pytest.raises(NotImplementedError):
            await request_topic_ids(group.coordinator, ["a"])

    run(scenario, metadata(topic(0, "a", bytes(16))))


def test_an_unauthorized_topic_is_an_error_and_does_not_count_as_deleted() -> None:
    async def scenario(group: Group) -> None:
        with pytest.raises(TopicAuthorizationFailedError):
            await request_topic_ids(group.coordinator, ["a"])

    run(scenario, metadata(topic(29, "a", bytes(16))))


def test_topic_ids_are_requested_in_the_version_that_has_them() -> None:
    request = TopicIdsRequest(["a"]).prepare({3: (0, 12)})
    assert request.encode() == b"\x02" + bytes(16) + b"\x02a\x00" + b"\x00\x00\x00" + b"\x00"
    with pytest.raises(NotImplementedError):
        TopicIdsRequest(["a"]).prepare({3: (0, 9)})


# ---- responses that aiokafka ignores, and brokers that moved -------------------------------------

FETCH, JOIN_GROUP = (SimpleNamespace(API_KEY=key) for key in (1, 11))


Reported = list[tuple[TopicPartition, int]]


class MemoryClient:
    """What is used of aiokafka's client; gives one answer after the other."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.updates: list[bool] = []
        self.hosts = [("first", 9092, 0), ("second", 9092, 0)]
        self._conns: dict[Any, Any] = {}
        for name in checked_client._CONNECTION_OPTIONS:
            setattr(self, f"_{name}", None)

    async def send(self, node: int, request: Any, **options: Any) -> Any:
        return self.answers.pop(0)

    async def _metadata_update(self, cluster: Any, topics: Any) -> bool:
        return self.updates.pop(0)


def with_client(
    scenario: Callable[[MemoryClient, CheckedClient, list[tuple[TopicPartition, int]]], Awaitable[None]],
) -> None:
    async def whole() -> None:
        client, reported = MemoryClient(), []

        async def out_of_range(partition: TopicPartition, offset: int) -> None:
            reported.append((partition, offset))

        checked = CheckedClient(client, {ONE: 1_000}.get, out_of_range)
        await scenario(client, checked, reported)

    asyncio.run(whole())


def test_only_an_offset_out_of_range_is_reported() -> None:
    async def scenario(
        client: Any, _checked: CheckedClient, reported: list[tuple[TopicPartition, int]]
    ) -> None:
        not_leader, out_of_range = NotLeaderForPartitionError.errno, 1
        for code in (0, not_leader, out_of_range):
            client.answers.append(SimpleNamespace(topics=[("t", [(0, code, -1, None), (1, 1, -1, None)])]))
            await client.send(1, FETCH)
        # Partition 1 was taken away meanwhile.
        assert reported == [(ONE, 1_000)]

    with_client(scenario)


def test_a_fatal_response_to_joining_is_kept_until_the_next_one() -> None:
    async def scenario(client: Any, checked: CheckedClient, _reported: object) -> None:
        seen = []
        for code in (16, 23, 79, 81, 0, 27):
            client.answers.append(SimpleNamespace(error_code=code))
            await client.send(1, JOIN_GROUP)
            seen.append(checked.join_refused)
        assert seen == [0, 23, 0, 81, 0, 0]

    with_client(scenario)


def test_a_bootstrap_server_is_asked_when_no_known_broker_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def connect(host: str, port: int, **_: Any) -> str:
        asked.append(host)
        if host == "first":
            raise KafkaConnectionError("refused")
        return host

    monkeypatch.setattr(checked_client, "create_conn", connect)

    async def scenario(client: Any, _checked: CheckedClient, _reported: object) -> None:
        client.updates = [True]
        assert await client._metadata_update(None, ())
        assert asked == []
        client.updates = [False, True]
        assert await client._metadata_update(None, ())
        assert asked == ["first", "second"]
        assert client._conns == {("bootstrap", ConnectionGroup.DEFAULT): "second"}

    with_client(scenario)


def test_the_next_attempt_waits_if_no_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []

    async def connect(*_: object, **_options: object) -> None:
        raise TimeoutError

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(checked_client, "create_conn", connect)

    async def scenario(client: Any, _checked: CheckedClient, _reported: object) -> None:
        client.updates = [False]
        monkeypatch.setattr(asyncio, "sleep", sleep)
        assert not await client._metadata_update(None, ())
        assert waits == [checked_client._PAUSE_SECONDS]

    with_client(scenario)
