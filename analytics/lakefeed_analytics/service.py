"""The work loop of `serve`: ensures the AWS resources, starts crawls, tracks queries."""

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
    """Runs one round after the other until stopped; an AWS error ends a round, never the loop."""

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
        self._logged: dict[str, str] = {}

    def wake(self) -> None:
        """Start the next round soon, because a crawl was started."""
        self._woken.set()

    def run(self, stop: threading.Event) -> None:
        """Run until stopped."""
        while not stop.is_set():
            self.tick()
            stop.wait(_TICK)
        self._health.retire(LOOP)

    def tick(self) -> None:
        """Run one round."""
        self._health.beat(LOOP)
        if self._clock() >= self._queries_due:
            self._update_queries()
        if self._clock() < self._due and not self._woken.is_set():
            return
        self._woken.clear()
        self._due = self._clock() + self._settings.crawl_poll_seconds
        if self._ensure() >= _NEEDED_TO_CRAWL:
            self._report(CATALOGUE, self._problem(CATALOGUE, self._check_crawls) or self._crawls.problem)

    def _check_crawls(self) -> None:
        self._due = self._clock() + self._crawls.check()

    def _update_queries(self) -> None:
        """Update the status of the queries; less often while Athena does not respond."""
        problem = self._problem("queries", self._watch.update)
        self._query_failures = self._query_failures + 1 if problem else 0
        if problem:
            self._queries_due = self._clock() + min(2.0 ** min(self._query_failures, 32), _LONGEST_PAUSE)
            if self._query_failures == 1:
                log.warning("The status of the queries is unknown: %s", problem)

    def _ensure(self) -> set[str]:
        """Ensure each dependency; returns those that can be used."""
        usable = set()
        for name, step in self._parts.ensure.items():
            problem = self._problem(name, step)
            self._report(name, problem)
            if problem is None:
                usable.add(name)
        return usable

    def _report(self, dependency: str, problem: str | None) -> None:
        if problem is None:
            self._health.ready(dependency)
        else:
            self._health.unready(dependency, problem)

    def _problem(self, what: str, work: Callable[[], object]) -> str | None:
        """Run a step; returns its error, which is counted."""
        self._health.beat(LOOP)
        try:
            work()
        except LakefeedError as error:
            self._metrics.count_error(error)
            return str(error)
        except Exception as error:
            self._metrics.count_error(error)
            # The traceback is logged once, as long as the error is the same.
            if self._logged.get(what) != repr(error):
                self._logged[what] = repr(error)
                log.exception("Unexpected error")
            return "internal error, see the log"
        self._logged.pop(what, None)
        return None
