"""Decides when to crawl, and notices how crawls end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime

from lakefeed_analytics.crawl import Crawl
from lakefeed_analytics.folders import Folder, NewFolders, catalogued
from lakefeed_analytics.metrics import CRAWL_OUTCOMES, AnalyticsMetrics
from lakefeed_analytics.parts import Parts
from lakefeed_analytics.settings import AnalyticsSettings, table_name

log = logging.getLogger(__name__)

_RUNNING_POLL = 2.0
# Glue bills ten minutes for a crawl that fails at once, so that a broken one must not go on each minute.
_LONGEST_PAUSE = 3600.0


class CrawlKeeper:
    """Looks at crawler and bucket once a round."""

    def __init__(
        self,
        parts: Parts,
        metrics: AnalyticsMetrics,
        settings: AnalyticsSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts = parts
        self._metrics = metrics
        self._settings = settings
        self._clock = clock
        self._new = NewFolders()
        self._catalogue_read = False
        # The topics whose tables were in the catalogue when it was last looked at.
        self._with_table: set[str] = set()
        # The folders that the crawl which we started will have seen.
        self._crawled: set[Folder] = set()
        self._last_start: float | None = None
        self._last_end = clock()
        self._failures = 0
        self._looked = False
        self._seen: datetime | None = None

    def look(self) -> float:
        """One round; returns the seconds until the next."""
        status = self._parts.crawler.status()
        self._metrics.crawler(status)
        if status.running:
            return self._soon()
        self._notice_end(status.last)
        if not self._catalogue_read:
            self._read_catalogue()
        self._notice_lost_tables()
        listed = self._parts.folders.listed()
        pending = self._new.pending(listed)
        self._metrics.folders_pending.set(len(pending))
        if not self._is_due(pending):
            return self._settings.crawl_poll_seconds
        self._start(listed, pending)
        return self._soon()

    def _soon(self) -> float:
        return min(_RUNNING_POLL, self._settings.crawl_poll_seconds)

    def _notice_end(self, last: Crawl | None) -> None:
        """Count a crawl that ended since the last look, whoever started it."""
        started = last.started if last else None
        if last is not None and last.outcome == "SUCCEEDED" and started is not None:
            self._metrics.crawl_success.set(started.timestamp())
        news = self._looked and started != self._seen
        self._looked, self._seen = True, started
        if last is None or not news:
            return
        self._last_end = self._clock()
        self._metrics.crawls.labels(last.outcome if last.outcome in CRAWL_OUTCOMES else "FAILED").inc()
        seconds = self._parts.crawler.last_seconds()
        if seconds is not None:
            self._metrics.crawl_seconds.observe(seconds)
        if last.outcome == "SUCCEEDED":
            log.info("crawled in %.0f s", seconds or 0)
            self._new.saw(self._crawled)
            self._failures = 0
        else:
            log.warning("the crawl ended as %s: %s", last.outcome, last.error or "Glue gives no reason")
            self._failures += 1
        self._crawled = set()
        self._catalogue_read = False

    def _read_catalogue(self) -> None:
        """What the catalogue knows; after the start and after each crawl, since GetPartitions costs."""
        topics = self._settings.topic_names
        known = catalogued(self._parts.catalogue, topics)
        self._new.saw(known)
        for topic in topics:
            count = sum(1 for owner, _ in known if owner == topic)
            self._metrics.partitions.labels(table_name(topic)).set(count)
        self._catalogue_read = True

    def _notice_lost_tables(self) -> None:
        """A table that somebody deleted, alone or with its database, is made again by a crawl."""
        tables = {table.name for table in self._parts.catalogue.tables()}
        self._metrics.tables.set(len(tables))
        present = {topic for topic in self._settings.topic_names if table_name(topic) in tables}
        for topic in self._with_table - present:
            log.warning("the table %s is gone; its topic is crawled again", table_name(topic))
            self._new.forget(topic)
        self._with_table = present

    def _is_due(self, pending: set[Folder]) -> bool:
        now = self._clock()
        if self._last_start is not None and now - self._last_start < self._pause():
            return False
        if pending:
            return True
        return 0 < self._settings.crawl_interval_seconds <= now - self._last_end

    def _pause(self) -> float:
        """The least time between two starts: twice as long after each crawl that failed."""
        pause = self._settings.crawl_min_interval_seconds
        if not self._failures:
            return pause
        return max(pause, min(pause * 2.0 ** min(self._failures, 32), _LONGEST_PAUSE))

    def _start(self, listed: set[Folder], pending: set[Folder]) -> None:
        # Joined, a crawl may have been past a folder before there was anything in it.
        self._crawled = listed if self._parts.crawler.start() else set()
        self._last_start = self._clock()
        newest = ", ".join(f"{topic} {day}" for topic, day in sorted(pending)[-3:])
        log.info(
            "started a crawl: %s",
            f"{len(pending)} new folders ({newest})" if pending else "the interval passed",
        )
