"""Decides when to crawl, tracks how crawls end, and reports why the catalogue is behind."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from lakefeed_analytics.catalogue import Table
from lakefeed_analytics.crawl import Crawl, CrawlerStatus
from lakefeed_analytics.folders import Folder, NewFolders, catalogued
from lakefeed_analytics.metrics import CRAWL_OUTCOMES, AnalyticsMetrics
from lakefeed_analytics.parts import Parts
from lakefeed_analytics.settings import AnalyticsSettings

log = logging.getLogger(__name__)

_RUNNING_POLL = 2.0
# Glue bills ten minutes for a crawl that fails immediately, so a failing one must not be started every
# minute.
_LONGEST_PAUSE = 3600.0
# GetPartitions is billed, and only users remove partitions.
_REREAD_SECONDS = 600.0


class CrawlKeeper:
    """Checks crawler and bucket once per round."""

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
        # When partitions were last read; None after a crawl.
        self._catalogue_read: float | None = None
        # The tables of our topics when the catalogue was last read.
        self._tables: dict[str, Table] = {}
        # The folders that existed when our crawl was started.
        self._crawled: set[Folder] = set()
        self._last_start: float | None = None
        self._last_end = clock()
        self._failures = 0
        self._failure: str | None = None
        self._checked = False
        self._seen: datetime | None = None
        self.problem: str | None = None
        """Why the catalogue is behind the bucket; the text is stable while the cause is the same."""

    def check(self) -> float:
        """One round; returns the seconds until the next."""
        status = self._parts.crawler.status()
        self._metrics.crawler(status)
        self._count_end(status)
        if status.running:
            self._check_duration(status.running_seconds)
            return self._soon()
        by_hand = self._catalogue_read is not None
        tables, others = self._read_tables(by_hand=by_hand)
        listed = self._parts.folders.listed()
        self._read_partitions(listed)
        pending = self._new.pending(listed)
        self._metrics.folders_pending.set(len(pending))
        misplaced = self._misplaced(tables)
        missing = without_table(self._new.topics_crawled(listed), others, self._settings)
        self.problem = (
            "; ".join([*misplaced, *missing, *([self._failure] if self._failure and pending else [])]) or None
        )
        if not self._is_due(pending):
            return self._settings.crawl_poll_seconds
        self._start(listed, pending)
        return self._soon()

    def _soon(self) -> float:
        return min(_RUNNING_POLL, self._settings.crawl_poll_seconds)

    def _check_duration(self, seconds: float) -> None:
        limit = self._settings.crawl_timeout_seconds
        if seconds > limit:
            # It is not stopped: a long crawl is more likely than a stuck one, and would take as long the next
            # time.
            self.problem = (
                f"the crawl has been running for more than {limit:g} s, and new days are pending. If its log "
                "(/aws-glue/crawlers) shows no progress, stop it with DELETE /v1/crawls; if it needs more "
                "time, increase LAKEFEED_CRAWL_TIMEOUT_SECONDS"
            )

    def _count_end(self, status: CrawlerStatus) -> None:
        """Count a crawl that ended since the last round, whether or not we started it."""
        last = status.last
        started = last.started if last else None
        if last is not None and last.outcome == "SUCCEEDED" and started is not None:
            self._metrics.crawl_success.set(started.timestamp())
        is_new = self._checked and started != self._seen
        self._checked, self._seen = True, started
        self._failure = _failure(last) if last else None
        if last is None or not is_new:
            return
        self._last_end = self._clock()
        self._catalogue_read = None
        self._metrics.crawls.labels(last.outcome if last.outcome in CRAWL_OUTCOMES else "FAILED").inc()
        if self._failure is None:
            self._failures = 0
            self._new.crawled(self._crawled)
        else:
            self._failures += 1
            log.warning("%s. The crawl is retried in %.0f s", self._failure, self._pause())
        self._crawled = set()
        seconds = self._parts.crawler.last_seconds()
        if seconds is not None:
            self._metrics.crawl_seconds.observe(seconds)
        if self._failure is None:
            log.info("Crawled in %.0f s", seconds or 0)

    def _read_tables(self, *, by_hand: bool) -> tuple[dict[str, Table], list[Table]]:
        """Read our topics' tables and all tables; report manual changes, and recrawl deleted tables."""
        found = {table.name: table for table in self._parts.catalogue.tables()}
        self._metrics.tables.set(len(found))
        names = {topic: self._settings.raw_table(topic) for topic in self._settings.topic_names}
        tables = {topic: found[name] for topic, name in names.items() if name in found}
        for topic, before in self._tables.items():
            if topic not in tables:
                log.warning("Table %s was deleted; its topic is crawled again", before.name)
                self._new.forget(topic)
            elif by_hand and (difference := _difference(before, tables[topic])):
                log.warning(
                    "Table %s was changed manually: %s. The next crawl restores the columns of the objects; "
                    "POST /v1/crawls starts one",
                    before.name,
                    difference,
                )
        self._tables = tables
        return tables, list(found.values())

    def _misplaced(self, tables: dict[str, Table]) -> list[str]:
        """Tables whose location is not their topic's: a crawl would create a second table."""
        return [
            f"the location of the table {table.name} is {table.location}, not {place}. Restore it, or delete "
            "the table and a crawl recreates it"
            for topic, table in tables.items()
            if table.location.rstrip("/") != (place := self._settings.topic_location(topic)).rstrip("/")
        ]

    def _read_partitions(self, listed: set[Folder]) -> None:
        """Read the partitions at the start, after each crawl, and periodically."""
        now = self._clock()
        if self._catalogue_read is not None and now - self._catalogue_read < _REREAD_SECONDS:
            return
        known = catalogued(self._parts.catalogue, self._settings)
        lost = self._new.catalogued(known) & listed
        if lost:
            log.warning(
                "%d partitions were deleted or moved (%s); they are crawled again", len(lost), _some(lost)
            )
        for topic in self._settings.topic_names:
            count = sum(1 for owner, _ in known if owner == topic)
            self._metrics.partitions.labels(self._settings.raw_table(topic)).set(count)
        self._catalogue_read = now

    def _is_due(self, pending: set[Folder]) -> bool:
        now = self._clock()
        if self._last_start is not None and now - self._last_start < self._pause():
            return False
        if pending:
            return True
        return 0 < self._settings.crawl_interval_seconds <= now - self._last_end

    def _pause(self) -> float:
        """The minimum time between two crawls; it doubles with each failed crawl."""
        pause = self._settings.crawl_min_interval_seconds
        if not self._failures:
            return pause
        pause = max(pause, self._settings.crawl_poll_seconds)
        return max(pause, min(pause * 2.0 ** min(self._failures, 32), _LONGEST_PAUSE))

    def _start(self, listed: set[Folder], pending: set[Folder]) -> None:
        why = f"{len(pending)} new folders ({_some(pending)})" if pending else "the interval has passed"
        self._last_start = self._clock()
        if self._parts.crawler.start():
            self._crawled = listed
            log.info("started a crawl: %s", why)
        else:
            # It may have read a folder before there was an object in it: what it missed is crawled next.
            log.info("Waiting for a crawl that is already running: %s", why)


def without_table(crawled: set[str], tables: Sequence[Table], settings: AnalyticsSettings) -> list[str]:
    """The problem of topics with objects for which a successful crawl created no table."""
    names = {table.name for table in tables}
    at = {table.location.rstrip("/"): table.name for table in tables}
    problems = []
    for topic in settings.topic_names:
        name, place = settings.raw_table(topic), settings.topic_location(topic)
        if topic not in crawled or name in names:
            continue
        if other := at.get(place.rstrip("/")):
            advice = f"The table {other} has that location. Delete it"
        else:
            advice = (
                f"Check that this is a target of the crawler {settings.crawler}, that its role has read "
                "permission, and that the objects are JSON"
            )
        problems.append(
            f"a crawl succeeded but created no table {name} for {place}. {advice}; then start a crawl "
            "(POST /v1/crawls)"
        )
    return problems


def _failure(last: Crawl) -> str | None:
    """The problem of a crawl that did not succeed."""
    if last.outcome == "SUCCEEDED":
        return None
    if last.outcome == "CANCELLED":
        return "the last crawl was cancelled (StopCrawler)"
    reason = last.error or "Glue gives no reason; see its log group /aws-glue/crawlers"
    return (
        f"the last crawl ended with {last.outcome}: {reason}. Check the permissions of the crawler's role "
        "on the bucket, and that there are only events under their prefix"
    )


def _difference(before: Table, after: Table) -> str:
    """How a table's columns changed; empty if they did not."""
    old, new = ({column.name: column.type for column in table.columns} for table in (before, after))
    return ", ".join(
        [
            *(f"{name} was removed" for name in old if name not in new),
            *(f"{name} is {new[name]}, was {was}" for name, was in old.items() if new.get(name, was) != was),
            *(f"{name} was added" for name in new if name not in old),
        ]
    )


def _some(folders: set[Folder]) -> str:
    """The newest folders, for messages."""
    return ", ".join(f"{topic} {day}" for topic, day in sorted(folders)[-3:])
