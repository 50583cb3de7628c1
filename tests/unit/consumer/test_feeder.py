"""The feeder's life over a Faust app in memory: start, stop, loss, liveness, readiness, lag."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from faust.types import TP

from lakefeed_common.errors import UnavailableError
from lakefeed_common.health import Health
from lakefeed_common.settings import load
from lakefeed_consumer import feeder
from lakefeed_consumer.feeder import Feeder
from lakefeed_consumer.metrics import ConsumerMetrics
from lakefeed_consumer.records import Partition, Record
from lakefeed_consumer.settings import ConsumerSettings
from lakefeed_consumer.transport import Look, TopicMadeAnewError

ONE, TWO = TP("prices", 0), TP("prices", 1)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class MemorySink:
    """What the feeder uses of the sink; it stores what it is given at once."""

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


class MemoryConsumer:
    """What the feeder uses of the transport's consumer."""

    def __init__(self) -> None:
        self.looks = 0
        self.assigned: set[TP] = set()
        self.commits: dict[TP, int] = {}
        self.given: set[TP] = set()
        self.calls: list[tuple[str, Any]] = []
        self.thread_lives = True
        self.answer: Look | Exception = Look({"prices"}, {}, {}, {})
        self.while_looking: Callable[[], None] = lambda: None

    def says(self, **offsets: Sequence[int]) -> None:
        """For each partition assigned: start, end, position."""
        found = [offsets.get(f"p{tp.partition}", (0, 0, 0)) for tp in sorted(self.assigned)]
        self.answer = Look(
            {"prices"},
            *(dict(zip(sorted(self.assigned), (each[n] for each in found), strict=True)) for n in range(3)),
        )

    async def look(self, tps: Iterable[TP]) -> Look:
        self.looks += 1
        self.while_looking()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def in_thread(self, call: Callable[[], None]) -> None:
        if self.thread_lives:
            call()

    def assignment(self) -> set[TP]:
        return set(self.assigned)

    def committed(self, tp: TP) -> int | None:
        return self.commits.get(tp)

    def undelivered(self, tp: TP) -> bool:
        return tp in self.given

    def taken(self, message: Any) -> None:
        self.calls.append(("taken", message))

    def stored(self, tp: TP, offset: int) -> None:
        self.calls.append(("stored", (tp, offset)))

    def forget(self, tps: Iterable[TP]) -> None:
        self.calls.append(("forget", tps))


class MemoryApp:
    """What the feeder uses of Faust's app."""

    crash_reason: Exception | None = None

    def __init__(self) -> None:
        self.consumer = MemoryConsumer()
        self.start_error: Exception | None = None
        self.stops: asyncio.Event | None = None
        self.ended = asyncio.Event()
        self.started = self.stopped = False

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


class Fed(Feeder):
    """The feeder over them."""

    app: MemoryApp

    def _make_app(self) -> Any:
        self.agent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._agent = SimpleNamespace(_actors=[SimpleNamespace(actor_task=self.agent)])
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        return MemoryApp()


class Bench:
    """A feeder within a running event loop, and what it reports."""

    def __init__(self, **options: Any) -> None:
        self.settings = load(ConsumerSettings, {"topic": "prices", **options})
        self.metrics = ConsumerMetrics()
        self.clock = Clock()
        self.health = Health(
            self.metrics, ["kafka"], stall_seconds=self.settings.stall_seconds, clock=self.clock
        )
        self.sinks: list[MemorySink] = []
        self.feeder = Fed(self.settings, self.make_sink, self.metrics, self.health)
        self.sink, self.app, self.consumer = self.sinks[0], self.feeder.app, self.feeder.app.consumer
        self.stop = asyncio.Event()

    def make_sink(self, stored: Callable[[Partition, int], None]) -> Any:
        self.sinks.append(MemorySink(stored))
        return self.sinks[0]

    async def assign(self, *tps: TP) -> None:
        self.consumer.assigned = set(tps)
        await self.feeder._on_assigned(None, set(tps))

    async def rounds(self) -> None:
        """Wait until what is true now has been looked at, and shown."""
        seen = self.consumer.looks
        async with asyncio.timeout(20):
            while self.consumer.looks < seen + 3:
                await asyncio.sleep(0.001)

    async def silent(self) -> dict[str, str]:
        """Loops that show no life within 30 seconds, less what it takes to see that."""
        await self.rounds()
        self.clock.now += 30 - SEEN_SECONDS
        await self.rounds()
        return self.health.liveness().reasons

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"lakefeed_consumer_{name}", labels)

    def lag(self, tp: TP) -> tuple[float | None, float | None]:
        labels = {"topic": tp.topic, "partition": str(tp.partition)}
        return self.value("committed_offset", **labels), self.value("lag_events", **labels)


# As long as it may take until the feeder has looked, and until it has shown no life.
SEEN_SECONDS = feeder._WATCH_SECONDS + feeder._PULSE_SECONDS


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_WATCH_SECONDS", "_PULSE_SECONDS"):
        monkeypatch.setattr(feeder, name, 0.001)

    async def why_not(_: object, error: Exception) -> Exception:
        return UnavailableError(f"no answer ({error})")

    monkeypatch.setattr(feeder, "why_not", why_not)


def run(scenario: Callable[[Bench], Awaitable[None]], **options: Any) -> Bench:
    """A scenario before the feeder runs."""

    async def whole() -> Bench:
        bench = Bench(**options)
        try:
            await asyncio.wait_for(scenario(bench), 60)
        finally:
            bench.feeder._folder.cleanup()
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
        assert bench.app.stopped
        assert bench.sink.closed

    return run(around, **options)


# ---- start and end ----------------------------------------------------------------------------------


def test_asked_to_stop_it_ends_in_order() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.rounds()
        assert bench.app.started
        assert not bench.app.stopped
        assert not bench.sink.closed

    bench = running(scenario)
    bench.clock.now += 1000
    assert bench.health.liveness().ok, "what has ended as it should is not missed"


@pytest.mark.parametrize("error", [KafkaConnectionError("no connection"), OSError("no route")])
def test_a_broker_that_goes_while_faust_starts_is_named(error: Exception) -> None:
    async def scenario(bench: Bench) -> None:
        bench.app.start_error = error
        with pytest.raises(UnavailableError, match=r"cannot start with the broker at kafka\.test:9092: .*no"):
            await bench.feeder.run(bench.stop)
        assert bench.app.stopped
        assert bench.sink.closed

    run(scenario, kafka_bootstrap_servers="kafka.test:9092")


def test_faust_that_stops_by_itself_ends_it_with_its_reason() -> None:
    async def scenario(bench: Bench) -> None:
        bench.app.crash_reason = RuntimeError("a bug")
        bench.app.ended.set()
        with pytest.raises(UnavailableError, match=r"Faust stopped by itself: RuntimeError\('a bug'\)"):
            await bench.feeder.run(bench.stop)
        assert bench.app.stopped
        assert bench.sink.closed

    run(scenario)


@pytest.mark.parametrize("of", ["transport", "sink"])
def test_a_loss_of_the_topic_and_a_failure_of_the_sink_end_it(of: str) -> None:
    async def scenario(bench: Bench) -> None:
        life = asyncio.create_task(bench.feeder.run(bench.stop))
        await bench.rounds()
        assert not life.done()
        failing = bench.feeder._lost if of == "transport" else bench.sink.failure
        failing.set_exception(TopicMadeAnewError("forgotten") if of == "transport" else ValueError("bug"))
        with pytest.raises((TopicMadeAnewError, ValueError), match=r"forgotten|bug"):
            await life
        assert bench.app.stopped
        assert bench.sink.closed

    run(scenario)


def test_a_faust_that_does_not_stop_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feeder, "STOP_SECONDS", 0.01)

    async def scenario(bench: Bench) -> None:
        bench.app.stops = asyncio.Event()
        bench.stop.set()
        await asyncio.wait_for(bench.feeder.run(bench.stop), 20)
        assert not bench.app.stopped
        assert bench.sink.closed

    run(scenario, drain_seconds=0.01)
    assert [record.message for record in caplog.records if "did not stop in time" in record.message]


# ---- offsets that a log does not have ---------------------------------------------------------------


def test_an_event_that_was_deleted_unread_is_counted_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(bench: Bench) -> None:
        for start in (1500, 1500, 1600):
            bench.feeder._out_of_range(TWO, 1000, start)
        bench.feeder._out_of_range(ONE, 1000, 1010)

    bench = run(scenario)
    assert bench.value("events_never_read_total", topic="prices", partition="1") == 600
    assert bench.value("events_never_read_total", topic="prices", partition="0") == 10
    found = [record.message.partition("offset ")[2].partition(" were")[0] for record in caplog.records]
    assert found == ["1000 to 1499", "1500 to 1599", "1000 to 1009"]


def test_what_was_deleted_unread_is_not_lag() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.assign(ONE)
        bench.consumer.commits[ONE] = 1000
        bench.consumer.says(p0=(1500, 1600, 1500))
        await bench.rounds()
        assert bench.lag(ONE) == (1000, 100)

    running(scenario)


# ---- from the agent to the sink ---------------------------------------------------------------------


def test_records_go_to_the_sink_and_what_is_stored_to_the_transport() -> None:
    class Stream:
        def noack(self) -> Stream:
            return self

        async def events(self) -> AsyncIterator[Any]:
            for first in (0, 2):
                records = [Record(Partition("prices", 1), first + n, 0, None, b"{}") for n in range(2)]
                yield SimpleNamespace(value=records, message=first)

    async def scenario(bench: Bench) -> None:
        await bench.feeder._store_events(Stream())
        assert bench.consumer.calls == [
            *[("stored", (TWO, offset)) for offset in (0, 1)],
            ("taken", 0),
            *[("stored", (TWO, offset)) for offset in (2, 3)],
            ("taken", 2),
        ]

    run(scenario)


def test_partitions_that_come_and_go_are_counted_and_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def scenario(bench: Bench) -> None:
        await bench.assign(TWO, ONE, TP("other", 0))
        assert bench.value("assigned_partitions") == 2
        bench.consumer.says()
        await bench.rounds()
        assert bench.lag(ONE) == (0, 0)
        bench.consumer.assigned = set()
        await bench.feeder._on_revoked(None, {ONE, TWO})
        assert set(bench.sink.revoked) == {Partition("prices", 0), Partition("prices", 1)}
        assert bench.consumer.calls == [("forget", {ONE, TWO})]
        assert bench.value("assigned_partitions") == 0
        await bench.rounds()
        assert bench.lag(ONE) == bench.lag(TWO) == (None, None), "whoever has them now says it"
        await bench.assign()
        assert bench.value("rebalances_total") == 2

    running(scenario)
    told = [record.message for record in caplog.records if "partitions" in record.message]
    assert told == ["partitions assigned: 0, 1", "partitions assigned: none"]


# ---- liveness -------------------------------------------------------------------------------------------


def test_while_there_is_nothing_to_do_all_loops_live() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.assign(ONE)
        bench.consumer.says(p0=(0, 10, 10))
        assert await bench.silent() == {}

    running(scenario)


def test_a_dead_agent_fails_liveness_within_30_seconds() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.rounds()
        bench.feeder.agent.set_result(None)
        assert set(await bench.silent()) == {"agent"}

    running(scenario)


def test_a_client_thread_that_hangs_fails_liveness_within_30_seconds() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.rounds()
        bench.consumer.thread_lives = False
        assert set(await bench.silent()) == {"kafka client"}

    running(scenario)


@pytest.mark.parametrize("where", ["in the topic", "with the agent"])
def test_events_that_nobody_takes_fail_liveness_within_30_seconds(where: str) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.assign(ONE, TWO)
        if where == "in the topic":
            bench.consumer.says(p0=(0, 10, 10), p1=(0, 10, 9))
        else:
            bench.consumer.says(p0=(0, 10, 10), p1=(0, 10, 10))
            bench.consumer.given = {TWO}
        assert set(await bench.silent()) == {"agent"}
        # Taken at last.
        bench.consumer.says(p0=(0, 10, 10), p1=(0, 10, 10))
        bench.consumer.given = set()
        assert await bench.silent() == {}

    running(scenario)


def test_events_that_are_being_stored_or_taken_do_not_fail_liveness() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.assign(ONE)
        bench.consumer.says(p0=(0, 10, 5))
        bench.sink.in_flight = 1
        assert await bench.silent() == {}, "a put may take as long as it does"
        bench.sink.in_flight = 0

        def takes_one() -> None:
            bench.feeder._taken += 1

        bench.consumer.while_looking = takes_one
        assert await bench.silent() == {}

    running(scenario)


def test_a_broker_that_is_away_does_not_fail_liveness() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.assign(ONE)
        bench.consumer.says(p0=(0, 10, 5))
        assert set(await bench.silent()) == {"agent"}
        bench.consumer.answer = KafkaConnectionError("gone")
        assert await bench.silent() == {}

    running(scenario)


# ---- readiness and lag ------------------------------------------------------------------------------------


def test_readiness_says_what_is_missing() -> None:
    async def scenario(bench: Bench) -> None:
        async def reason() -> str | None:
            await bench.rounds()
            return bench.health.readiness().reasons.get("kafka")

        bench.consumer.answer = Look(set(), {}, {}, {})
        assert await reason() == f"{bench.settings.kafka_bootstrap_servers} knows no topics yet"
        bench.consumer.answer = Look({"other"}, {}, {}, {})
        assert "there is no topic prices" in (await reason() or "")
        bench.consumer.answer = Look({"prices"}, {}, {}, {})
        assert await reason() == "the group has not given out its partitions yet"
        await bench.assign()
        assert await reason() is None, "a worker without partitions is ready, too"
        bench.consumer.answer = KafkaConnectionError("gone")
        assert "no answer (" in (await reason() or "")
        bench.consumer.answer = Look({"prices"}, {}, {}, {})
        assert await reason() is None

    running(scenario)


def test_a_broker_that_does_not_answer_in_time_is_told() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.assign(ONE)
        asked = 0

        async def is_silent(_: object) -> Look:
            nonlocal asked
            asked += 1
            await asyncio.Event().wait()
            raise AssertionError

        bench.consumer.look = is_silent  # type: ignore[assignment, method-assign]
        while asked < 3:
            await asyncio.sleep(0.001)
        assert "no answer" in bench.health.readiness().reasons["kafka"]

    running(scenario, kafka_timeout_seconds=0.01)


def test_lag_counts_from_what_is_committed_or_else_from_the_start() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.assign(ONE, TWO)
        bench.consumer.commits = {ONE: 40}
        bench.consumer.says(p0=(0, 100, 50), p1=(7, 10, 8))
        await bench.rounds()
        assert (bench.lag(ONE), bench.lag(TWO)) == ((40, 60), (7, 3))
        # A log that went back: never below none.
        bench.consumer.says(p0=(0, 30, 30), p1=(7, 10, 8))
        await bench.rounds()
        assert bench.lag(ONE) == (40, 0)

    running(scenario)


def test_of_a_partition_that_goes_while_it_is_looked_at_nothing_is_told() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.assign(ONE, TWO)
        bench.consumer.says(p0=(0, 100, 100), p1=(0, 100, 100))
        # What was assigned before the look is asked for; after it only one is left.
        bench.consumer.while_looking = lambda: bench.consumer.assigned.discard(TWO)
        await bench.rounds()
        assert bench.lag(ONE) == (0, 100)
        assert bench.lag(TWO) == (None, None)

    running(scenario)
