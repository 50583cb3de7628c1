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
CATALOGUE = "catalogue"
_TICK = 1.0
_LONGEST_PAUSE = 60.0
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
        self._due = self._queries_due = clock()
        self._query_failures = 0
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
        if self._clock() >= self._queries_due:
            self._look_at_queries()
        if self._clock() < self._due and not self._woken.is_set():
            return
        self._woken.clear()
        self._due = self._clock() + self._settings.crawl_poll_seconds
        if self._ensure() >= _NEEDED_TO_CRAWL:
            self._tell(CATALOGUE, self._problem(CATALOGUE, self._look_at_crawls) or self._crawls.problem)

    def _look_at_crawls(self) -> None:
        self._due = self._clock() + self._crawls.look()

    def _look_at_queries(self) -> None:
        """See how the queries stand; less often for as long as Athena does not tell."""
        problem = self._problem("queries", self._watch.look)
        self._query_failures = self._query_failures + 1 if problem else 0
        if problem:
            self._queries_due = self._clock() + min(2.0 ** min(self._query_failures, 32), _LONGEST_PAUSE)
            if self._query_failures == 1:
                log.warning("how the queries stand is not known: %s", problem)

    def _ensure(self) -> set[str]:
        """Bring each dependency to what the settings say; returns those that can be used."""
        usable = set()
        for name, step in self._parts.ensure.items():
            problem = self._problem(name, step)
            self._tell(name, problem)
            if problem is None:
                usable.add(name)
        return usable

    def _tell(self, dependency: str, problem: str | None) -> None:
        if problem is None:
            self._health.ready(dependency)
        else:
            self._health.unready(dependency, problem)

    def _problem(self, what: str, work: Callable[[], object]) -> str | None:
        """Do some work; returns what went wrong, which is counted."""
        self._health.beat(LOOP)
        try:
            work()
        except LakefeedError as error:
            self._metrics.count_error(error)
            return str(error)
        except Exception as error:
            self._metrics.count_error(error)
            # Its trace once, for as long as it stays the same.
            if self._told.get(what) != repr(error):
                self._told[what] = repr(error)
                log.exception("unexpected error")
            return "internal error; see the log"
        self._told.pop(what, None)
        return None
