"""Starts queries and watches them until they end: counts them, cancels those that take too long."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from lakefeed_analytics.athena import QueryEngine, QueryStatus, overdue
from lakefeed_analytics.metrics import AnalyticsMetrics
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common.errors import MissingError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Open:
    label: str
    since: float


class QueryWatch:
    """The queries that this service started and that have not ended. Safe to call from any thread."""

    def __init__(
        self,
        engine: QueryEngine,
        metrics: AnalyticsMetrics,
        settings: AnalyticsSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}

    def start(self, sql: str, label: str) -> str:
        """Start a query and return its id; `label` is the named query's name, `sample` or `free`."""
        query = self._engine.start(sql)
        with self._lock:
            self._open[query] = _Open(label, self._clock())
            self._metrics.queries_running.set(len(self._open))
        return query

    def look(self) -> None:
        """See which have ended, and cancel those that run for too long."""
        with self._lock:
            watched = dict(self._open)
        if not watched:
            return
        statuses = self._engine.statuses(list(watched))
        for query in watched.keys() - {status.id for status in statuses}:
            self._forget(query)
        for status in statuses:
            if status.done:
                self._ended(status)
            elif self._clock() - watched[status.id].since > (limit := self._settings.query_timeout_seconds):
                log.warning("query %s is cancelled: %s", status.id, overdue(status, limit))
                self._cancel(status.id)

    def _ended(self, status: QueryStatus) -> None:
        found = self._forget(status.id)
        if found is not None:
            self._metrics.query_ended(found.label, status, self._settings.price_per_terabyte_usd)

    def _cancel(self, query: str) -> None:
        try:
            self._engine.cancel(query)
        except MissingError:
            self._forget(query)

    def _forget(self, query: str) -> _Open | None:
        with self._lock:
            found = self._open.pop(query, None)
            self._metrics.queries_running.set(len(self._open))
        return found
