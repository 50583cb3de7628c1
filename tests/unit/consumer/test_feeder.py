"""The feeder over a member in memory: start, stop, loss, liveness, readiness, lag."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from lakefeed_common.errors import UnavailableError
from lakefeed_common.health import Health
from lakefeed_common.lake.records import Partition, Record
from lakefeed_common.settings import load
from lakefeed_consumer import feeder, group_monitor
from lakefeed_consumer.faust_driver.errors import TopicRecreatedError
from lakefeed_consumer.faust_driver.member import BatchHandler
from lakefeed_consumer.faust_driver.snapshot import BrokerSnapshot
from lakefeed_consumer.feeder import Feeder
from lakefeed_consumer.metrics import ConsumerMetrics
from lakefeed_consumer.settings import ConsumerSettings

ONE, TWO = Partition("prices", 0), Partition("prices", 1)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class MemorySink:
    """What the feeder uses of the sink; it stores records immediately."""

    def __init__(self, stored: Callable[[Partition, int], None]) -> None:
        self.stored = stored
        self.in_flight = 0
        self.closed = False
        self.revoked: list[Partition] = []
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def submit(self, records: Iterable[Record]) -> None:
        for record in records:
            self.stored(record.partition, record.offset)

    async def failed(self) -> None:
        await asyncio.shield(self.failure)

    def revoke(self, partitions: Iterable[Partition]) -> None:
        self.revoked += partitions

    async def close(self) -> None:
        self.closed = True


class MemoryMember:
    """A member of the group in memory."""

    crash_reason: Exception | None = None

    def __init__(self, _: ConsumerSettings, handler: BatchHandler) -> None:
        self.handler = handler
        self.polls = 0
        self.assigned: set[Partition] = set()
        self.commits: dict[Partition, int] = {}
        self.unstored: set[Partition] = set()
        self.stored: list[tuple[Partition, int]] = []
        self.agent_lives = self.thread_lives = True
        self.answer: BrokerSnapshot | Exception = BrokerSnapshot({"prices"}, {}, {}, {})
        self.while_polled: Callable[[], None] = lambda: None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.start_error: Exception | None = None
        self.stops: asyncio.Event | None = None
        self.ended = asyncio.Event()
        self.started = self.stopped = self.closed = False

    async def start(self) -> None:
        if self.start_error:
            raise self.start_error
        self.started = True

    async def stop(self) -> None:
        if self.stops:
            await self.stops.wait()
        self.stopped = True

    async def wait_until_stopped(self) -> None:
        await self.ended.wait()

    def close(self) -> None:
        self.closed = True

    def report(self, **offsets: Sequence[int]) -> None:
        """For each partition assigned: start, end, position."""
        found = [offsets.get(f"p{each.number}", (0, 0, 0)) for each in self.assignment()]
        self.answer = BrokerSnapshot(
            {"prices"},
            *(dict(zip(self.assignment(), (each[n] for each in found), strict=True)) for n in range(3)),
        )

    async def snapshot(self, partitions: Iterable[Partition]) -> BrokerSnapshot | None:
        self.polls += 1
        self.while_polled()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if self.started else None

    def call_in_client_thread(self, call: Callable[[], None]) -> None:
        if self.thread_lives:
            call()

    def agent_runs(self) -> bool:
        return self.agent_lives

    def assignment(self) -> list[Partition]:
        return sorted(self.assigned)

    def committed(self, partition: Partition) -> int | None:
        return self.commits.get(partition)

    def has_unstored(self, partition: Partition) -> bool:
        return partition in self.unstored

    def store(self, partition: Partition, offset: int) -> None:
        self.stored.append((partition, offset))


class Bench:
    """A feeder within a running event loop, and its metrics and health."""

    def __init__(self, **options: Any) -> None:
        self.settings = load(ConsumerSettings, {"topic": "prices", **options})
        self.metrics = ConsumerMetrics()
        self.clock = Clock()
        self.health = Health(
            self.metrics, ["kafka"], stall_seconds=self.settings.stall_seconds, clock=self.clock
        )
        self.sinks: list[MemorySink] = []
        self.feeder = Feeder(self.settings, self.make_sink, self.metrics, self.health, self.make_member)
        self.sink = self.sinks[0]
        self.stop = asyncio.Event()

    def make_sink(self, stored: Callable[[Partition, int], None]) -> Any:
        self.sinks.append(MemorySink(stored))
        return self.sinks[0]

    def make_member(self, settings: ConsumerSettings, handler: BatchHandler) -> MemoryMember:
        self.member = MemoryMember(settings, handler)
        return self.member

    def assign(self, *partitions: Partition) -> None:
        self.member.assigned = set(partitions)
        self.member.handler.assign(partitions)

    async def polled(self) -> None:
        """Wait until the current state has been polled and reported."""
        seen = self.member.polls
        async with asyncio.timeout(20):
            while self.member.polls < seen + 3:
                await asyncio.sleep(0.001)

    async def silent(self) -> dict[str, str]:
        """Loops without a heartbeat within 30 seconds, less the time to notice it."""
        await self.polled()
        self.clock.now += 30 - NOTICED_SECONDS
        await self.polled()
        return self.health.liveness().reasons

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"lakefeed_consumer_{name}", labels)

    def lag(self, tp: Partition) -> tuple[float | None, float | None]:
        labels = {"topic": tp.topic, "partition": str(tp.number)}
        return self.value("committed_offset", **labels), self.value("lag_events", **labels)


# How long it may take until the monitor has polled, and until a heartbeat is due.
NOTICED_SECONDS = group_monitor._POLL_SECONDS + group_monitor._HEARTBEAT_SECONDS


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_POLL_SECONDS", "_HEARTBEAT_SECONDS"):
        monkeypatch.setattr(group_monitor, name, 0.001)

    async def diagnose(_: object, error: Exception) -> Exception:
        return UnavailableError(f"no answer ({error})")

    monkeypatch.setattr(group_monitor, "diagnose_connection", diagnose)


def run(scenario: Callable[[Bench], Awaitable[None]], **options: Any) -> Bench:
    """A scenario before the feeder runs."""

    async def whole() -> Bench:
        bench = Bench(**options)
        await asyncio.wait_for(scenario(bench), 60)
        return bench

    return asyncio.run(whole())


def running(scenario: Callable[[Bench], Awaitable[None]], **options: Any) -> Bench:
    """A scenario while the feeder runs, and an orderly stop."""

    async def around(bench: Bench) -> None:
        life = asyncio.create_task(bench.feeder.run(bench.stop))
        await scenario(bench)
        assert not life.done()
        bench.stop.set()
        await life
        assert bench.member.stopped
        assert bench.sink.closed
        assert bench.member.closed

    return run(around, **options)


# ---- start and end ----------------------------------------------------------------------------------


def test_a_stop_ends_in_order() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.polled()
        assert bench.member.started
        assert not bench.member.stopped
        assert not bench.sink.closed

    bench = running(scenario)
    bench.clock.now += 1000
    assert bench.health.liveness().ok, "a loop that has ended in order is not expected"


def test_an_error_of_the_start_ends_the_feeder() -> None:
    async def scenario(bench: Bench) -> None:
        bench.member.start_error = UnavailableError("cannot start")
        with pytest.raises(UnavailableError, match="cannot start"):
            await bench.feeder.run(bench.stop)
        assert bench.member.stopped
        assert bench.sink.closed

    run(scenario)


def test_the_feeder_ends_with_the_reason_why_faust_stopped() -> None:
    async def scenario(bench: Bench) -> None:
        bench.member.crash_reason = RuntimeError("a bug")
        bench.member.ended.set()
        with pytest.raises(UnavailableError, match=r"Faust stopped by itself: RuntimeError\('a bug'\)"):
            await bench.feeder.run(bench.stop)
        assert bench.member.stopped
        assert bench.sink.closed

    run(scenario)


@pytest.mark.parametrize("of", ["member", "sink"])
def test_the_feeder_ends_when_the_topic_is_lost_or_the_sink_fails(of: str) -> None:
    async def scenario(bench: Bench) -> None:
        life = asyncio.create_task(bench.feeder.run(bench.stop))
        await bench.polled()
        assert not life.done()
        failing = bench.member.lost if of == "member" else bench.sink.failure
        failing.set_exception(TopicRecreatedError("forgotten") if of == "member" else ValueError("bug"))
        with pytest.raises((TopicRecreatedError, ValueError), match=r"forgotten|bug"):
            await life
        assert bench.member.stopped
        assert bench.sink.closed

    run(scenario)


def test_the_feeder_ends_although_faust_does_not_stop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feeder, "STOP_SECONDS", 0.01)

    async def scenario(bench: Bench) -> None:
        bench.member.stops = asyncio.Event()
        bench.stop.set()
        await asyncio.wait_for(bench.feeder.run(bench.stop), 20)
        assert not bench.member.stopped
        assert bench.sink.closed

    run(scenario, drain_seconds=0.01)
    assert [record.message for record in caplog.records if "did not stop in time" in record.message]


# ---- offsets that a log does not have ---------------------------------------------------------------


def test_events_deleted_unread_are_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(bench: Bench) -> None:
        for start in (1500, 1500, 1600):
            bench.member.handler.out_of_range(TWO, 1000, start)
        bench.member.handler.out_of_range(ONE, 1000, 1010)

    bench = run(scenario)
    assert bench.value("events_never_read_total", topic="prices", partition="1") == 600
    assert bench.value("events_never_read_total", topic="prices", partition="0") == 10
    found = [record.message.partition("offset ")[2].partition(" were")[0] for record in caplog.records]
    assert found == ["1000 to 1499", "1500 to 1599", "1000 to 1009"]


def test_events_deleted_unread_are_not_lag() -> None:
    async def scenario(bench: Bench) -> None:
        bench.assign(ONE)
        bench.member.commits[ONE] = 1000
        bench.member.report(p0=(1500, 1600, 1500))
        await bench.polled()
        assert bench.lag(ONE) == (1000, 100)

    running(scenario)


# ---- from the agent to the sink ---------------------------------------------------------------------


def test_records_go_to_the_sink_and_stored_offsets_to_the_member() -> None:
    async def scenario(bench: Bench) -> None:
        for first in (0, 2):
            records = [Record(Partition("prices", 1), first + n, 0, None, b"{}") for n in range(2)]
            await bench.member.handler.handle(records)
        assert bench.member.stored == [(TWO, offset) for offset in range(4)]

    run(scenario)


def test_assigned_and_revoked_partitions_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def scenario(bench: Bench) -> None:
        bench.assign(ONE, TWO)
        assert bench.value("assigned_partitions") == 2
        assert bench.value("events_never_read_total", topic="prices", partition="1") == 0
        bench.member.report()
        await bench.polled()
        assert bench.lag(ONE) == (0, 0)
        bench.member.assigned = set()
        bench.member.handler.revoke([ONE, TWO])
        assert set(bench.sink.revoked) == {Partition("prices", 0), Partition("prices", 1)}
        assert bench.value("assigned_partitions") == 0
        await bench.polled()
        assert bench.lag(ONE) == bench.lag(TWO) == (None, None), "the new member reports it"
        bench.assign()
        assert bench.value("rebalances_total") == 2

    running(scenario)
    logged = [record.message for record in caplog.records if "Partitions" in record.message]
    assert logged == ["Partitions assigned: 0, 1", "Partitions assigned: none"]


# ---- liveness -------------------------------------------------------------------------------------------


def test_all_loops_are_live_while_there_is_nothing_to_do() -> None:
    async def scenario(bench: Bench) -> None:
        bench.assign(ONE)
        bench.member.report(p0=(0, 10, 10))
        assert await bench.silent() == {}

    running(scenario)


def test_a_dead_agent_fails_liveness_within_30_seconds() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.polled()
        bench.member.agent_lives = False
        assert set(await bench.silent()) == {"agent"}

    running(scenario)


def test_a_client_thread_that_hangs_fails_liveness_within_30_seconds() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.polled()
        bench.member.thread_lives = False
        assert set(await bench.silent()) == {"kafka client"}

    running(scenario)


@pytest.mark.parametrize("where", ["in the topic", "with the agent"])
def test_events_that_are_not_taken_fail_liveness_within_30_seconds(where: str) -> None:
    async def scenario(bench: Bench) -> None:
        bench.assign(ONE, TWO)
        if where == "in the topic":
            bench.member.report(p0=(0, 10, 10), p1=(0, 10, 9))
        else:
            bench.member.report(p0=(0, 10, 10), p1=(0, 10, 10))
            bench.member.unstored = {TWO}
        assert set(await bench.silent()) == {"agent"}
        # Taken now.
        bench.member.report(p0=(0, 10, 10), p1=(0, 10, 10))
        bench.member.unstored = set()
        assert await bench.silent() == {}

    running(scenario)


def test_events_that_are_being_stored_or_taken_do_not_fail_liveness() -> None:
    async def scenario(bench: Bench) -> None:
        bench.assign(ONE)
        bench.member.report(p0=(0, 10, 5))
        bench.sink.in_flight = 1
        assert await bench.silent() == {}, "a put may take any time"
        bench.sink.in_flight = 0

        def takes_one() -> None:
            bench.feeder._batches += 1

        bench.member.while_polled = takes_one
        assert await bench.silent() == {}

    running(scenario)


def test_an_unreachable_broker_does_not_fail_liveness() -> None:
    async def scenario(bench: Bench) -> None:
        bench.assign(ONE)
        bench.member.report(p0=(0, 10, 5))
        assert set(await bench.silent()) == {"agent"}
        bench.member.answer = KafkaConnectionError("gone")
        assert await bench.silent() == {}

    running(scenario)


# ---- readiness and lag ------------------------------------------------------------------------------------


def test_readiness_reports_what_is_missing() -> None:
    async def scenario(bench: Bench) -> None:
        async def reason() -> str | None:
            await bench.polled()
            return bench.health.readiness().reasons.get("kafka")

        bench.member.answer = BrokerSnapshot(set(), {}, {}, {})
        assert await reason() == f"{bench.settings.kafka_bootstrap_servers} has no topics yet"
        bench.member.answer = BrokerSnapshot({"other"}, {}, {}, {})
        assert "there is no topic prices" in (await reason() or "")
        bench.member.answer = BrokerSnapshot({"prices"}, {}, {}, {})
        assert await reason() == "the group has not assigned its partitions yet"
        bench.assign()
        assert await reason() is None, "a worker without partitions is ready, too"
        bench.member.answer = KafkaConnectionError("gone")
        assert "no answer (" in (await reason() or "")
        bench.member.answer = BrokerSnapshot({"prices"}, {}, {}, {})
        assert await reason() is None

    running(scenario)


def test_a_broker_that_does_not_answer_in_time_is_reported() -> None:
    async def scenario(bench: Bench) -> None:
        bench.assign(ONE)
        asked = 0

        async def never_answers(_: object) -> BrokerSnapshot:
            nonlocal asked
            asked += 1
            await asyncio.Event().wait()
            raise AssertionError

        bench.member.snapshot = never_answers  # type: ignore[assignment, method-assign]
        while asked < 3:
            await asyncio.sleep(0.001)
        assert "no answer" in bench.health.readiness().reasons["kafka"]

    running(scenario, kafka_timeout_seconds=0.01)


def test_lag_counts_from_the_committed_offset_or_else_from_the_start() -> None:
    async def scenario(bench: Bench) -> None:
        bench.assign(ONE, TWO)
        bench.member.commits = {ONE: 40}
        bench.member.report(p0=(0, 100, 50), p1=(7, 10, 8))
        await bench.polled()
        assert (bench.lag(ONE), bench.lag(TWO)) == ((40, 60), (7, 3))
        # A truncated log: lag is never negative.
        bench.member.report(p0=(0, 30, 30), p1=(7, 10, 8))
        await bench.polled()
        assert bench.lag(ONE) == (40, 0)

    running(scenario)


def test_a_partition_revoked_during_a_poll_is_not_reported() -> None:
    async def scenario(bench: Bench) -> None:
        bench.assign(ONE, TWO)
        bench.member.report(p0=(0, 100, 100), p1=(0, 100, 100))
        # Both are assigned before the poll, and only one after it.
        bench.member.while_polled = lambda: bench.member.assigned.discard(TWO)
        await bench.polled()
        assert bench.lag(ONE) == (0, 100)
        assert bench.lag(TWO) == (None, None)

    running(scenario)
