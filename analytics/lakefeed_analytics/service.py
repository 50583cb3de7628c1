"""The work loop of `serve`: keeps AWS as the settings say, crawls when it is time, watches queries."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from lakefeed_analytics.crawls import CrawlKeeper
from lakefeed_analytics.metrics import AnalyticsMetrics
from lakefeed_analytics.parts import Parts
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_analytics.watch import QueryWatch
from lakefeed_common.errors import LakefeedError
from lakefeed_common.health import Health

log = logging.getLogger(__name__)

LOOP = "crawl-loop"
_TICK = 1.0
_NEEDED_TO_CRAWL = {"bucket", "glue"}


class Service:
    """One round after another until told to stop; an error of AWS ends a round, never the loop."""

    def __init__(
        self,
        parts: Parts,
        watch: QueryWatch,
        metrics: AnalyticsMetrics,
        health: Health,
        settings: AnalyticsSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts = parts
        self._watch = watch
        self._crawls = CrawlKeeper(parts, metrics, settings, clock)
        self._metrics = metrics
        self._health = health
        self._settings = settings
        self._clock = clock
        self._due = clock()
        self._woken = threading.Event()
        self._told: dict[str, str] = {}

    def wake(self) -> None:
        """Ask for a round soon, since somebody started a crawl."""
        self._woken.set()

    def run(self, stop: threading.Event) -> None:
        """Go round until stopped."""
        while not stop.is_set():
            self.tick()
            stop.wait(_TICK)
        self._health.retire(LOOP)

    def tick(self) -> None:
        """Do what is due."""
        self._health.beat(LOOP)
        self._guarded("queries", self._watch.look)
        if self._clock() < self._due and not self._woken.is_set():
            return
        self._woken.clear()
        self._due = self._clock() + self._settings.crawl_poll_seconds
        if self._ensure() >= _NEEDED_TO_CRAWL:
            self._health.beat(LOOP)
            self._guarded("crawls", self._look_at_crawls)

    def _look_at_crawls(self) -> None:
        self._due = self._clock() + self._crawls.look()

    def _ensure(self) -> set[str]:
        """Bring each dependency to what the settings say; returns those that can be used."""
        usable = set()
        for name, step in self._parts.ensure.items():
            self._health.beat(LOOP)
            problem = self._problem(step)
            if problem is None:
                self._health.ready(name)
                usable.add(name)
            else:
                self._health.unready(name, problem)
        return usable

    def _guarded(self, what: str, work: Callable[[], object]) -> None:
        """Do some work and tell of its error, once for as long as it stays the same."""
        problem = self._problem(work)
        if problem is None:
            self._told.pop(what, None)
        elif self._told.get(what) != problem:
            self._told[what] = problem
            log.warning("%s: %s", what, problem)

    def _problem(self, work: Callable[[], object]) -> str | None:
        """Do some work; returns what went wrong, which is counted."""
        try:
            work()
        except LakefeedError as error:
            self._metrics.count_error(error)
            return str(error)
        except Exception as error:
            self._metrics.count_error(error)
            log.exception("unexpected error")
            return "internal error; see the log"
        return None
