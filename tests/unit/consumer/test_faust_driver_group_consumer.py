"""The group consumer over a Kafka client in memory: commits, seeks, batches, stops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka.errors import (
    CommitFailedError,
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    NotCoordinatorForGroupError,
    TopicAuthorizationFailedError,
    UnknownError,
)
from aiokafka.structs import TopicPartition
from faust.types import TP

from lakefeed_common.lake.records import Partition
from lakefeed_consumer.faust_driver import client_calls, group_consumer
from lakefeed_consumer.faust_driver.errors import MembershipLostError, TopicRecreatedError
from lakefeed_consumer.faust_driver.snapshot import BrokerSnapshot
from tests.helpers.fake_kafka_client import InMemory

ONE, TWO = TP("t", 0), TP("t", 1)
LOG = {ONE: (0, 100), TWO: (0, 100)}


def run(scenario: Callable[[InMemory], Awaitable[None]], log: dict[TP, tuple[int, int]] = LOG) -> None:
    async def whole() -> None:
        await scenario(InMemory(log))

    asyncio.run(whole())


async def batches(consumer: Any) -> list[tuple[TP, list[int]]]:
    return [(tp, [record.offset for record in message.value]) async for tp, message in consumer.getmany(0.01)]


def test_what_is_stored_is_committed_once() -> None:
    async def scenario(memory: InMemory) -> None:
        consumer = memory.consumer
        assert not await consumer.force_commit()
        consumer.store(ONE, 9)
        consumer.store(TWO, 4)
        assert await consumer.force_commit()
        assert not await consumer.force_commit()
        consumer.store(TWO, 5)
        assert await consumer.force_commit()
        assert memory.client.commits == [{ONE: 10, TWO: 5}, {TWO: 6}]
        assert consumer.committed(TWO) == 6

    run(scenario)


def test_nothing_is_requested_before_there_is_an_assignment() -> None:
    async def scenario(memory: InMemory) -> None:
        def none_yet() -> set[TP]:
            raise AssertionError("Faust's thread has no client yet")

        memory.thread.assignment = none_yet  # type: ignore[assignment, method-assign]
        assert not await memory.consumer.force_commit()

    run(scenario)


@pytest.mark.parametrize("error", [UnknownError("the disk is full"), IllegalStateError(ONE), TimeoutError()])
def test_a_refused_commit_is_retried(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(memory: InMemory) -> None:
        consumer, client = memory.consumer, memory.client
        client.refuse = [error] * 5
        consumer.store(ONE, 9)
        for _ in range(5):
            assert not await consumer.force_commit()
            assert consumer.committed(ONE) is None
        assert await consumer.force_commit()
        assert client.commits == [{ONE: 10}]
        consumer.store(ONE, 10)
        client.refuse = [error]
        await consumer.force_commit()

    run(scenario)
    assert [record.message[:31] for record in caplog.records] == ["Offsets cannot be committed now"] * 2
    assert not [record for record in caplog.records if record.exc_info]


def test_an_unanswered_commit_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_calls, "_RESPONSE_SECONDS", 0.01)

    async def scenario(memory: InMemory) -> None:
        async def is_silent(_: object) -> None:
            await asyncio.Event().wait()

        commit, memory.client.commit = memory.client.commit, is_silent  # type: ignore[assignment, method-assign]
        memory.consumer.store(ONE, 9)
        assert not await asyncio.wait_for(memory.consumer.force_commit(), 10)
        memory.client.commit = commit  # type: ignore[method-assign]
        assert await memory.consumer.force_commit()

    run(scenario)


def test_a_commit_after_the_partitions_were_reassigned_is_dropped_without_a_log_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(memory: InMemory) -> None:
        memory.client.refuse = [CommitFailedError("rebalanced")]
        memory.consumer.store(ONE, 9)
        assert not await memory.consumer.force_commit()
        memory.consumer.forget({ONE, TWO})
        assert not await memory.consumer.force_commit()
        assert memory.client.commits == []

    run(scenario)
    assert caplog.records == []


def test_a_revoked_partition_is_not_committed() -> None:
    async def scenario(memory: InMemory) -> None:
        consumer = memory.consumer
        for tp in (ONE, TWO):
            consumer.store(tp, 9)
        memory.assign({TWO})
        assert await consumer.force_commit()
        assert memory.client.commits == [{TWO: 10}]
        consumer.forget({TWO})
        memory.assign({ONE, TWO})
        consumer.store(TWO, 9)
        memory.client.before_commit = lambda: consumer.forget({ONE})
        await consumer.force_commit()
        assert consumer.committed(ONE) is None

    run(scenario)


@pytest.mark.parametrize(
    "then",
    [{"t": bytes(15) + b"2"}, {}, None],
    ids=["another topic has its name", "no topic has its name", "the broker has no topic IDs"],
)
def test_commits_end_when_the_topic_was_recreated(
    then: dict[str, bytes] | None,
) -> None:
    async def scenario(memory: InMemory) -> None:
        consumer, client = memory.consumer, memory.client
        if then is None:
            client.topic_ids = None
        await memory.rejoin()
        consumer.store(ONE, 9)
        assert await consumer.force_commit()
        # The topic is deleted, and the group's offsets with it.
        client.topic_ids = then
        client.group.clear()
        consumer.store(ONE, 10)
        assert not await consumer.force_commit()
        with pytest.raises(TopicRecreatedError, match="t, partition 0: the broker no longer"):
            await memory.lost
        # Puts that end now are of the old topic, on each partition.
        consumer.store(ONE, 11)
        consumer.store(TWO, 3)
        assert not await consumer.force_commit()
        assert client.commits == [{ONE: 10}]

    run(scenario)


def test_a_commit_that_the_broker_has_lost_is_repeated_if_the_topic_is_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(memory: InMemory) -> None:
        consumer, client = memory.consumer, memory.client
        await memory.rejoin()
        for offset in (9, 10):
            client.group.clear()
            consumer.store(ONE, offset)
            assert await consumer.force_commit()
        assert client.commits == [{ONE: 10}, {ONE: 11}]
        assert not memory.lost.done()

    run(scenario)
    assert "t, partition 0: the broker has lost the committed offset" in caplog.text


def test_topic_ids_that_are_unavailable_at_the_assignment_are_requested_with_a_commit() -> None:
    async def scenario(memory: InMemory) -> None:
        consumer, client = memory.consumer, memory.client

        async def refused() -> None:
            raise UnknownError

        known = client._coordinator.ensure_coordinator_known
        client._coordinator.ensure_coordinator_known = refused
        await memory.rejoin()
        client._coordinator.ensure_coordinator_known = known
        for offset in (9, 10):
            consumer.store(ONE, offset)
            assert await consumer.force_commit()
        client.group.clear()
        consumer.store(ONE, 11)
        assert await consumer.force_commit()
        assert not memory.lost.done()

    run(scenario)


@pytest.mark.parametrize("error", [TopicAuthorizationFailedError("t"), GroupAuthorizationFailedError("g")])
def test_a_revoked_permission_is_not_a_recreated_topic(error: Exception) -> None:
    async def scenario(memory: InMemory) -> None:
        async def refused(_: object) -> None:
            raise error

        consumer, coordinator = memory.consumer, memory.client._coordinator
        consumer.store(ONE, 9)
        assert await consumer.force_commit()
        allowed, coordinator.fetch_committed_offsets = coordinator.fetch_committed_offsets, refused
        consumer.store(ONE, 10)
        assert not await consumer.force_commit()
        coordinator.fetch_committed_offsets = allowed
        assert await consumer.force_commit()
        assert memory.client.commits == [{ONE: 10}, {ONE: 11}]
        assert not memory.lost.done()

    run(scenario)


def test_a_group_that_committed_offset_0_starts_there() -> None:
    async def scenario(memory: InMemory) -> None:
        memory.client.group |= {ONE: 0, TWO: 8}
        await memory.rejoin()
        assert memory.client.positions == {ONE: 0, TWO: 8}, "not at the start, which retention has moved"
        assert memory.resumed == [{Partition(*ONE): 0, Partition(*TWO): 8}]

    run(scenario, {ONE: (7, 100), TWO: (7, 100)})


def test_a_chain_without_a_commit_starts_at_0_wherever_the_log_starts() -> None:
    async def scenario(memory: InMemory) -> None:
        memory.client.group |= {TWO: 8}
        await memory.rejoin()
        assert memory.client.positions == {ONE: 7, TWO: 8}
        assert memory.resumed == [{Partition(*ONE): 0, Partition(*TWO): 8}]

    run(scenario, {ONE: (7, 100), TWO: (7, 100)})


def test_an_error_that_aiokafka_keeps_is_taken_so_that_it_rejoins() -> None:
    async def scenario(memory: InMemory) -> None:
        consumer, client = memory.consumer, memory.client
        await memory.rejoin()
        client.error = GroupAuthorizationFailedError("g")
        with pytest.raises(GroupAuthorizationFailedError):
            await consumer.snapshot([ONE])
        memory.thread.client.join_refused = 23
        client.error = KafkaError("another protocol")
        assert (await consumer.snapshot([ONE])).join_refused == 23
        assert client.error is None

    run(scenario)


def test_a_membership_that_aiokafka_has_ended_is_lost() -> None:
    async def scenario(memory: InMemory) -> None:
        memory.client.error, memory.client.given_up = KafkaError("it broke"), True
        with pytest.raises(KafkaError):
            await memory.consumer.snapshot([ONE])
        with pytest.raises(MembershipLostError, match="it broke"):
            await memory.lost

    run(scenario)


def test_reading_starts_at_the_committed_offset_or_else_at_the_start() -> None:
    async def scenario(memory: InMemory) -> None:
        memory.client.group[ONE] = 30
        await memory.rejoin()
        assert memory.client.positions == {ONE: 30, TWO: 7}
        assert (memory.consumer.committed(ONE), memory.consumer.committed(TWO)) == (30, None)

    run(scenario, {ONE: (0, 100), TWO: (7, 100)})


def test_a_fetch_is_one_message_of_each_partition() -> None:
    async def scenario(memory: InMemory) -> None:
        memory.fetch(ONE, [3, 4, 9])
        assert await batches(memory.consumer) == [(ONE, [3, 4, 9])]
        assert memory.consumer.has_unstored(ONE)
        memory.consumer.store(ONE, 9)
        assert not memory.consumer.has_unstored(ONE)

    run(scenario)


def test_fetching_pauses_while_the_backlog_is_full() -> None:
    async def scenario(memory: InMemory) -> None:
        memory.fetch(ONE, range(group_consumer._MAX_BACKLOG_RECORDS + 1))
        memory.fetch(ONE, [5000])
        first = [message async for _, message in memory.consumer.getmany(0.01)]
        assert await batches(memory.consumer) == []
        waiting = asyncio.create_task(memory.consumer._getmany({ONE}, 60))
        await asyncio.sleep(0)
        memory.consumer.take(first[0])
        assert await asyncio.wait_for(waiting, 10) == {}, "Faust asks again"
        assert await batches(memory.consumer) == [(ONE, [5000])]

    run(scenario)


def test_a_rebalance_clears_the_backlog() -> None:
    async def scenario(memory: InMemory) -> None:
        memory.fetch(ONE, range(group_consumer._MAX_BACKLOG_RECORDS + 1))
        memory.fetch(ONE, [0])
        assert len(await batches(memory.consumer)) == 1
        memory.consumer.forget({ONE, TWO})
        assert await batches(memory.consumer) == [(ONE, [0])]

    run(scenario)


@pytest.mark.parametrize("failures", [0, 2])
def test_records_that_were_dropped_are_fetched_again(
    failures: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also while no coordinator answers, which readiness reports."""
    monkeypatch.setattr(group_consumer, "_SEEK_PAUSE_SECONDS", 0)

    async def scenario(memory: InMemory) -> None:
        consumer, client, coordinator = memory.consumer, memory.client, memory.client._coordinator
        client.group |= {ONE: 8, TWO: 5}
        await memory.rejoin()
        getmany, offsets = memory.thread.getmany, coordinator.fetch_committed_offsets
        left = failures

        async def while_the_flow_stops(*args: Any) -> Any:
            consumer.stop_flow()
            return await getmany(*args)

        async def without_coordinator(partitions: list[TopicPartition]) -> Any:
            nonlocal left
            if left:
                left -= 1
                raise NotCoordinatorForGroupError
            return await offsets(partitions)

        memory.fetch(ONE, [8, 9])
        memory.thread.getmany = while_the_flow_stops  # type: ignore[assignment, method-assign]
        assert await batches(consumer) == []
        memory.thread.getmany = getmany  # type: ignore[method-assign]
        coordinator.fetch_committed_offsets = without_coordinator
        consumer.resume_flow()
        memory.fetch(ONE, [8, 9])
        for _ in range(failures):
            assert await batches(consumer) == []
            assert client.positions == {ONE: 10, TWO: 5}
            with pytest.raises(NotCoordinatorForGroupError):
                await consumer.snapshot([ONE])
        assert await batches(consumer) == [(ONE, [8, 9])]
        assert memory.resumed == [{Partition(*ONE): 8, Partition(*TWO): 5}] * 2, "back to what is committed"
        await consumer.snapshot([ONE])

    run(scenario)
    assert caplog.text.count("is retried") == bool(failures), "once for each outage"


@pytest.mark.parametrize("during", ["the fetch", "the seek"])
def test_records_of_a_new_assignment_wait_for_a_seek_that_begins_after_it(during: str) -> None:
    async def scenario(memory: InMemory) -> None:
        consumer, client, coordinator = memory.consumer, memory.client, memory.client._coordinator
        client.group |= {ONE: 8, TWO: 5}
        await memory.rejoin()
        memory.resumed.clear()
        owner, name = {
            "the fetch": (memory.thread, "getmany"),
            "the seek": (coordinator, "fetch_committed_offsets"),
        }[during]
        as_before = getattr(owner, name)

        async def and_meanwhile(*args: Any) -> Any:
            setattr(owner, name, as_before)
            await consumer.on_partitions_assigned({ONE, TWO})
            consumer.resume_flow()
            return await as_before(*args)

        if during == "the seek":
            await consumer.on_partitions_assigned({ONE, TWO})
            consumer.resume_flow()
        setattr(owner, name, and_meanwhile)
        memory.fetch(ONE, [8, 9])
        assert await batches(consumer) == []
        assert memory.resumed == []
        memory.thread.fetched.clear()
        memory.fetch(ONE, [8, 9])
        assert await batches(consumer) == [(ONE, [8, 9])]
        assert memory.resumed == [{Partition(*ONE): 8, Partition(*TWO): 5}]

    run(scenario)


def test_nothing_of_a_members_first_partitions_is_delivered_before_the_end_of_the_rebalance() -> None:
    """Faust stops the flow when partitions are revoked, which this member had none of."""

    async def scenario(memory: InMemory) -> None:
        consumer = memory.consumer

        async def assigned(*_: object) -> None:
            assert not consumer.flow_active
            await consumer.perform_seek()
            assert memory.resumed == []
            consumer.resume_flow()
            assert await batches(consumer) == [(ONE, [0])]
            assert len(memory.resumed) == 1, "first of all it seeks"

        memory.fetch(ONE, [0])
        consumer._on_partitions_assigned = assigned
        consumer.resume_flow()
        await consumer.on_partitions_assigned({ONE, TWO})

    run(scenario)


@pytest.mark.parametrize("gone", ["before", "meanwhile"])
def test_a_seek_in_partitions_that_are_revoked_is_repeated(
    gone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_consumer, "_SEEK_PAUSE_SECONDS", 0)

    async def scenario(memory: InMemory) -> None:
        consumer, client, coordinator = memory.consumer, memory.client, memory.client._coordinator
        client.group |= {ONE: 8, TWO: 5}
        offsets = coordinator.fetch_committed_offsets

        async def and_meanwhile(partitions: list[TopicPartition]) -> Any:
            if gone == "before":
                client.assigned = {TWO}
            else:
                consumer.forget({ONE, TWO})
            coordinator.fetch_committed_offsets = offsets
            return await offsets(partitions)

        coordinator.fetch_committed_offsets = and_meanwhile
        await memory.rejoin()
        assert memory.resumed == []
        assert consumer.committed(ONE) is None
        assert await batches(consumer) == []
        assert consumer.committed(TWO) == 5

    run(scenario)


def test_a_coordinator_that_is_silent_fails_the_seek(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_calls, "_RESPONSE_SECONDS", 0.01)
    monkeypatch.setattr(group_consumer, "_SEEK_PAUSE_SECONDS", 0)

    async def scenario(memory: InMemory) -> None:
        async def is_silent(_: object) -> None:
            await asyncio.Event().wait()

        memory.client._coordinator.fetch_committed_offsets = is_silent
        await memory.rejoin()
        assert memory.resumed == []
        with pytest.raises(KafkaTimeoutError, match="the coordinator does not return the group's offsets"):
            await memory.consumer.snapshot([ONE])

    run(scenario)


@pytest.mark.parametrize("change", ["a rebalance begins", "a rebalance is over"])
def test_no_more_of_a_fetch_is_delivered_after_a_rebalance(change: str) -> None:
    async def scenario(memory: InMemory) -> None:
        memory.fetch(ONE, [1])
        memory.fetch(TWO, [2])
        memory.thread.fetched[:] = [memory.thread.fetched[0] | memory.thread.fetched[1]]
        given = []
        async for tp, _ in memory.consumer.getmany(0.01):
            given.append(tp)
            if change == "a rebalance begins":
                memory.consumer.stop_flow()
            else:
                memory.app.consumer_generation_id += 1
        assert given == [ONE]

    run(scenario)


def test_records_of_a_revoked_partition_are_not_delivered() -> None:
    async def scenario(memory: InMemory) -> None:
        memory.assign({TWO})
        memory.fetch(ONE, [1])
        assert await batches(memory.consumer) == []

    run(scenario)


@pytest.mark.parametrize("left", [0, 3])
def test_a_rebalance_waits_for_what_is_in_flight_and_commits_it(
    left: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(memory: InMemory) -> None:
        async def drain(seconds: float) -> int:
            assert seconds == 2.5
            memory.consumer.store(ONE, 9)
            return left

        memory.drain = drain
        await memory.consumer.wait_empty()
        assert memory.client.commits == [{ONE: 10}]

    run(scenario)
    assert [record.message for record in caplog.records] == (
        ["3 events are not stored after 2.5 s and will be read again"] if left else []
    )


def test_a_snapshot_has_the_start_end_and_position_of_each_partition() -> None:
    one, two = Partition(*ONE), Partition(*TWO)

    async def scenario(memory: InMemory) -> None:
        memory.client.group[ONE] = 30
        await memory.rejoin()
        assert await memory.consumer.snapshot([one, two]) == BrokerSnapshot(
            {"t"}, {one: 0, two: 2}, {one: 100, two: 9}, {one: 30, two: 2}
        )

    run(scenario, {ONE: (0, 100), TWO: (2, 9)})
