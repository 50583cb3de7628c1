"""A member of the group, without a broker: what Faust calls, and what it calls in turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from faust.types import TP

from lakefeed_common.errors import UnavailableError
from lakefeed_common.lake.records import Partition, Record
from lakefeed_common.settings import load
from lakefeed_consumer.faust_driver.member import FaustMember
from lakefeed_consumer.settings import ConsumerSettings

ONE, TWO = TP("prices", 0), TP("prices", 1)


class Handler:
    """Keeps what a member calls, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    async def handle(self, records: Iterable[Record]) -> None:
        self.calls.append(("handle", records))

    async def drain(self, seconds: float) -> int:
        raise AssertionError

    def revoke(self, partitions: Collection[Partition]) -> None:
        self.calls.append(("revoke", partitions))

    def assign(self, partitions: Collection[Partition]) -> None:
        self.calls.append(("assign", partitions))

    def resume(self, positions: Mapping[Partition, int]) -> None:
        raise AssertionError

    def out_of_range(self, partition: Partition, offset: int, start: int) -> None:
        raise AssertionError


def run(scenario: Callable[[FaustMember, Handler], Awaitable[None]]) -> None:
    async def whole() -> None:
        handler = Handler()
        member = FaustMember(load(ConsumerSettings, {"topic": "prices"}), handler)
        try:
            await scenario(member, handler)
        finally:
            member.close()

    asyncio.run(whole())


@pytest.mark.parametrize("error", [KafkaConnectionError("no connection"), OSError("no route")])
def test_a_broker_that_becomes_unreachable_while_faust_starts_is_named(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFEED_KAFKA_BOOTSTRAP_SERVERS", "kafka.test:9092")

    async def scenario(member: FaustMember, handler: Handler) -> None:
        async def start() -> None:
            raise error

        member._app.start = start
        with pytest.raises(UnavailableError, match=r"cannot start with the broker at kafka\.test:9092: .*no"):
            await member.start()

    run(scenario)


def test_a_batch_is_taken_when_its_records_are_handled() -> None:
    class Stream:
        def noack(self) -> Stream:
            return self

        async def events(self) -> AsyncIterator[Any]:
            for number in range(2):
                yield SimpleNamespace(value=[number], message=f"message {number}")

    async def scenario(member: FaustMember, handler: Handler) -> None:
        member._app.consumer.take = lambda message: handler.calls.append(("take", message))
        await member._consume(Stream())
        assert handler.calls == [
            ("handle", [0]),
            ("take", "message 0"),
            ("handle", [1]),
            ("take", "message 1"),
        ]

    run(scenario)


def test_a_rebalance_revokes_and_assigns_the_topics_own_partitions() -> None:
    async def scenario(member: FaustMember, handler: Handler) -> None:
        member.store(Partition("prices", 0), 7)
        assert member._app.consumer._commits.any_stored
        await member._on_revoked(None, {ONE})
        assert not member._app.consumer._commits.any_stored
        await member._on_assigned(None, {TWO, ONE, TP("other", 0)})
        assert handler.calls == [
            ("revoke", [Partition("prices", 0)]),
            ("assign", [Partition("prices", 0), Partition("prices", 1)]),
        ]

    run(scenario)


def test_before_its_start_a_member_has_no_partitions_and_no_snapshot() -> None:
    async def scenario(member: FaustMember, handler: Handler) -> None:
        async def call_at_once(call: Callable[..., Awaitable[Any]], *args: Any) -> Any:
            return await call(*args)

        member._app.consumer._thread.call_thread = call_at_once
        assert member.assignment() == []
        assert await member.snapshot([]) is None
        assert not member.agent_runs()

    run(scenario)


class Actor:
    """One of the agent's, as Faust keeps them: by weak references."""

    actor_task: asyncio.Future[None]


def test_the_agent_runs_until_its_task_ends() -> None:
    async def scenario(member: FaustMember, handler: Handler) -> None:
        task: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        actor = Actor()
        actor.actor_task = task
        member._agent._actors.add(actor)
        assert member.agent_runs()
        task.set_result(None)
        assert not member.agent_runs()

    run(scenario)
