"""The work loop and the watch over queries."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from lakefeed_analytics.ensure import Change
from lakefeed_analytics.metrics import AnalyticsMetrics
from lakefeed_analytics.parts import Parts
from lakefeed_analytics.queries import NamedQueries
from lakefeed_analytics.service import LOOP, Service
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_analytics.watch import QueryWatch
from lakefeed_common.errors import UnavailableError
from lakefeed_common.health import Health
from tests.helpers.analytics.fakes import (
    Answer,
    Clock,
    MemoryCatalogue,
    MemoryCrawler,
    MemoryEngine,
    MemoryFolders,
)


class World:
    """A service over fakes, one of whose dependencies can be broken."""

    def __init__(self) -> None:
        self.settings = AnalyticsSettings(topic="prices")
        self.clock = Clock()
        self.metrics = AnalyticsMetrics()
        self.health = Health(self.metrics, ["bucket", "glue", "athena"], stall_seconds=30, clock=self.clock)
        self.crawler, self.folders, self.engine = MemoryCrawler(), MemoryFolders(), MemoryEngine()
        self.catalogue = MemoryCatalogue()
        self.errors: dict[str, Exception] = {}
        parts = Parts(
            {name: self._step(name) for name in ("bucket", "glue", "athena")},
            self.catalogue,
            self.crawler,
            self.folders,
            self.engine,
        )
        self.watch = QueryWatch(self.engine, self.metrics, self.settings, self.clock)
        self.service = Service(parts, self.watch, self.metrics, self.health, self.settings, self.clock)

    def _step(self, name: str) -> Callable[[], list[Change]]:
        def step() -> list[Change]:
            if name in self.errors:
                raise self.errors[name]
            return []

        return step

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def world() -> World:
    return World()


def test_ready_once_all_can_be_used(world: World) -> None:
    assert not world.health.readiness().ok
    world.service.tick()
    assert world.health.readiness().ok
    assert world.health.liveness().ok


def test_an_aws_that_does_not_respond_is_logged_once_and_recovers(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world.folders.folders.add(("prices", "2026-01-01"))
    for name in ("bucket", "glue", "athena"):
        world.errors[name] = UnavailableError(f"{name} does not answer")
    for _ in range(5):
        world.service.tick()
        world.clock.now += 30
    assert world.health.readiness().reasons["glue"] == "glue does not answer"
    assert caplog.text.count("glue does not answer") == 1
    assert world.crawler.starts == 0
    assert world.value("lakefeed_errors_total", kind="unavailable") == 15
    world.errors.clear()
    world.service.tick()
    assert world.health.readiness().ok
    assert world.crawler.starts == 1


def test_athena_alone_does_not_keep_from_crawling(world: World) -> None:
    world.folders.folders.add(("prices", "2026-01-01"))
    world.errors["athena"] = UnavailableError("no answer")
    world.service.tick()
    assert world.crawler.starts == 1
    assert list(world.health.readiness().reasons) == ["athena"]


def test_an_unexpected_error_does_not_end_the_loop(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.errors["glue"] = ZeroDivisionError("oh")
    world.service.tick()
    assert world.health.readiness().reasons == {"glue": "internal error, see the log"}
    assert "oh" in caplog.text
    world.errors.clear()
    world.clock.now += 30
    world.service.tick()
    assert world.health.readiness().ok


def test_an_unforeseen_error_is_traced_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.errors["glue"] = ZeroDivisionError("oh")
    for _ in range(5):
        world.service.tick()
        world.clock.now += 30
    assert caplog.text.count("Traceback") == 1
    assert world.value("lakefeed_errors_total", kind="internal") == 5


def test_a_catalogue_problem_is_logged_once_and_recovers(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.folders.folders.add(("prices", "2026-01-01"))
    world.service.tick()
    for _ in range(3):
        world.crawler.end("FAILED", "no access")
        world.clock.now += 3600
        world.service.tick()
    assert "no access" in world.health.readiness().reasons["catalogue"]
    assert caplog.text.count("catalogue cannot be used") == 1
    world.crawler.error = UnavailableError("no answer")
    world.clock.now += 3600
    world.service.tick()
    assert world.health.readiness().reasons["catalogue"] == "no answer"
    world.crawler.error = None
    world.catalogue.add("prices", "2026-01-01")
    world.crawler.end()
    world.clock.now += 3600
    world.service.tick()
    assert world.health.readiness().ok


def test_queries_are_looked_at_less_often_while_athena_does_not_tell(world: World) -> None:
    world.engine.answers["SELECT 1"] = Answer(hold=True)
    world.watch.start("SELECT 1", "free")
    world.engine.error = UnavailableError("Rate exceeded")
    looks, before = [], 0.0
    for second in range(300):
        world.clock.now = second
        world.service.tick()
        errors = world.value("lakefeed_errors_total", kind="unavailable") or 0.0
        if errors > before:
            looks.append(second)
        before = errors
    assert looks == [0, 2, 6, 14, 30, 62, 122, 182, 242]


def test_rounds_run_at_the_set_interval_or_on_request(world: World) -> None:
    world.service.tick()
    world.folders.folders.add(("prices", "2026-01-01"))
    world.clock.now += 29
    world.service.tick()
    assert world.crawler.starts == 0
    world.service.wake()
    world.service.tick()
    assert world.crawler.starts == 1


def test_the_loop_sends_heartbeats_and_stops(world: World) -> None:
    stop = threading.Event()
    loop = threading.Thread(target=world.service.run, args=(stop,))
    loop.start()
    stop.set()
    loop.join(10)
    assert not loop.is_alive()
    world.health.beat(LOOP)
    world.clock.now += 31
    assert list(world.health.liveness().reasons) == [LOOP]


def test_queries_are_counted_when_they_end(world: World) -> None:
    world.engine.answers["SELECT 1"] = Answer(hold=True, scanned_bytes=10**12)
    query = world.watch.start("SELECT 1", "volatility")
    world.watch.update()
    assert world.value("lakefeed_analytics_queries_running") == 1
    world.engine.finish(query)
    world.watch.update()
    world.watch.update()
    assert world.value("lakefeed_analytics_queries_running") == 0
    assert world.value("lakefeed_analytics_queries_total", query="volatility", state="SUCCEEDED") == 1
    assert world.value("lakefeed_analytics_query_seconds_count") == 1
    assert world.value("lakefeed_analytics_query_scanned_bytes_total") == 10**12
    assert world.value("lakefeed_analytics_query_cost_usd_total") == 5


def test_a_query_that_takes_too_long_is_cancelled(world: World) -> None:
    world.engine.answers["SELECT 1"] = Answer(hold=True)
    query = world.watch.start("SELECT 1", "free")
    world.clock.now += 300
    world.watch.update()
    assert world.engine.status(query).state == "RUNNING"
    world.clock.now += 1
    world.watch.update()
    assert world.engine.status(query).state == "CANCELLED"
    world.watch.update()
    assert world.value("lakefeed_analytics_queries_total", query="free", state="CANCELLED") == 1


def test_a_query_that_athena_forgot_is_forgotten(world: World) -> None:
    world.engine.answers["SELECT 1"] = Answer(hold=True)
    world.watch.start("SELECT 1", "free")
    world.engine.queries.clear()
    world.watch.update()
    assert world.value("lakefeed_analytics_queries_running") == 0


def test_queries_of_other_programs_are_counted_once(world: World) -> None:
    world.engine.answers["SELECT 1"] = Answer(scanned_bytes=10**12)
    world.engine.answers["SELECT 2"] = Answer(hold=True)
    named = next(iter(NamedQueries(world.settings.queries_folder)))
    over = named.over('pri"ces')
    world.engine.answers[over] = Answer()
    watch = QueryWatch(world.engine, world.metrics, world.settings, world.clock, [named])

    def count(query: str, state: str = "SUCCEEDED") -> float:
        return world.value("lakefeed_analytics_queries_total", query=query, state=state) or 0

    # What had ended before is not counted, what runs is when it ends.
    world.engine.start("SELECT 1")
    runs = world.engine.start("SELECT 2")
    watch.update()
    assert world.value("lakefeed_analytics_queries_running") == 1
    assert count("free") == 0
    world.engine.start("SELECT 1")
    world.engine.start(over)
    world.engine.start("SELECT nothing")
    watch.start("SELECT 1", "sample")
    world.engine.finish(runs)
    for _ in range(3):
        world.clock.now += 10
        watch.update()
    assert count("free") == 2
    assert count(named.name) == 1
    assert count("sample") == 1
    assert count("free", "FAILED") == 1
    assert world.value("lakefeed_analytics_query_scanned_bytes_total") == 2 * 10**12
    assert world.value("lakefeed_analytics_query_cost_usd_total") == pytest.approx(10, abs=1e-3)
    assert world.value("lakefeed_analytics_queries_running") == 0


def test_more_queries_than_a_page_between_two_looks(world: World) -> None:
    world.engine.answers["SELECT 1"] = Answer()
    world.watch.update()
    for _ in range(120):
        world.engine.start("SELECT 1")
    world.clock.now += 10
    world.watch.update()
    assert world.value("lakefeed_analytics_queries_total", query="free", state="SUCCEEDED") == 120


def test_a_long_query_of_another_program_is_not_cancelled(world: World) -> None:
    world.engine.answers["SELECT 1"] = Answer(hold=True)
    query = world.engine.start("SELECT 1")
    world.watch.update()
    world.clock.now += 10_000
    world.watch.update()
    assert world.engine.status(query).state == "RUNNING"


def test_athena_is_listed_periodically(world: World) -> None:
    asked: list[int] = []
    recent = world.engine.recent
    world.engine.recent = lambda limit: asked.append(limit) or recent(limit)  # type: ignore[method-assign, func-returns-value]
    for second in range(31):
        world.clock.now = second
        world.watch.update()
    assert asked == [50] * 4
