"""Tracks the workgroup's queries until they end: counts them, and cancels ours that take too long."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from lakefeed_analytics.athena import QueryEngine, QueryStatus, overdue
from lakefeed_analytics.metrics import FREE, AnalyticsMetrics
from lakefeed_analytics.queries import NamedQuery
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common.errors import MissingError

log = logging.getLogger(__name__)

_LIST_SECONDS = 10.0
_PAGE, _MOST = 50, 500  # the first request, and the limit if all of its queries are new
_REMEMBERED = 5_000


@dataclass(frozen=True)
class _Open:
    """A query that has not ended. `since` is None if another client started it."""

    label: str
    since: float | None


class QueryWatch:
    """The queries of the workgroup, including those of other clients. Thread-safe.

    Queries that ended before the first update are not counted. Queries of other clients are counted, but
    never cancelled.
    """

    def __init__(
        self,
        engine: QueryEngine,
        metrics: AnalyticsMetrics,
        settings: AnalyticsSettings,
        clock: Callable[[], float] = time.monotonic,
        named: Iterable[NamedQuery] = (),
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._settings = settings
        self._clock = clock
        self._named = tuple(named)
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}
        # Queries that are counted, or ended before; the oldest are dropped first.
        self._ended: dict[str, None] = {}
        self._list_due = clock()
        self._listed = False
        # When, by Athena's clock, the newest query that existed before our start was submitted.
        self._before: datetime | None = None

    def start(self, sql: str, label: str) -> str:
        """Start a query and return its id; `label` is the named query's name, `sample` or `free`."""
        query = self._engine.start(sql)
        with self._lock:
            # An update may have happened in between.
            if query not in self._ended:
                self._open[query] = _Open(label, self._clock())
            self._metrics.queries_running.set(len(self._open))
        return query

    def update(self) -> None:
        """Update the status of all queries, and cancel those of ours that take too long."""
        self._update_open()
        if self._clock() >= self._list_due:
            self._list()
            self._list_due = self._clock() + _LIST_SECONDS

    def _update_open(self) -> None:
        with self._lock:
            watched = dict(self._open)
        if not watched:
            return
        statuses = self._engine.statuses(list(watched))
        for query in watched.keys() - {status.id for status in statuses}:
            self._forget(query)
        limit = self._settings.query_timeout_seconds
        for status in statuses:
            since = watched[status.id].since
            if status.done:
                self._count(status)
            elif since is not None and self._clock() - since > limit:
                log.warning("Query %s is cancelled: %s", status.id, overdue(status, limit))
                self._cancel(status.id)

    def _list(self) -> None:
        """Find queries that other clients started since the last update: the command line, a console."""
        recent = self._engine.recent(_PAGE)
        if self._listed and len(recent) == _PAGE and not any(map(self._known, recent)):
            recent = self._engine.recent(_MOST)
        first, self._listed = not self._listed, True
        if first:
            self._before = max((each.submitted for each in recent if each.submitted), default=None)
        for status in recent:
            if self._known(status):
                continue
            with self._lock:
                if first and status.done:
                    self._remember(status.id)
                elif first or self._is_new(status):
                    self._open.setdefault(status.id, _Open(self._label(status.sql), None))
                    self._metrics.queries_running.set(len(self._open))
            if status.done:
                self._count(status)

    def _known(self, status: QueryStatus) -> bool:
        with self._lock:
            return status.id in self._open or status.id in self._ended

    def _is_new(self, status: QueryStatus) -> bool:
        return self._before is None or (status.submitted is not None and status.submitted >= self._before)

    def _label(self, sql: str) -> str:
        return next((query.name for query in self._named if query.is_over_some_table(sql)), FREE)

    def _count(self, status: QueryStatus) -> None:
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
            if found is not None:
                self._remember(query)
            self._metrics.queries_running.set(len(self._open))
        return found

    def _remember(self, query: str) -> None:
        self._ended[query] = None
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]
