"""Starts crawls, joins running ones, waits for their end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import ClientError

from lakefeed_analytics import edge
from lakefeed_analytics.edge import explained
from lakefeed_analytics.errors import CrawlFailedError
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common.errors import UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_glue import GlueClient

READY = "READY"
_BUSY = ("CrawlerRunningException", "CrawlerStoppingException")
_FIRST_POLL, _LONGEST_POLL = 0.5, 5.0


@dataclass(frozen=True)
class Crawl:
    """One crawl; `outcome` is SUCCEEDED, FAILED, CANCELLED or RUNNING, `error` is Glue's message."""

    outcome: str
    started: datetime | None = None
    seconds: float | None = None
    error: str | None = None
    dpu_hours: float | None = None


@dataclass(frozen=True)
class CrawlerStatus:
    """The crawler's status: `state` is READY, RUNNING or STOPPING; `last` is the last crawl that ended."""

    state: str
    running_seconds: float = 0.0
    last: Crawl | None = None

    @property
    def running(self) -> bool:
        """Whether a crawl has not ended yet."""
        return self.state != READY


class Crawler(Protocol):
    """The crawler that fills the catalogue."""

    def status(self) -> CrawlerStatus:
        """The current status. Raises MissingError if the crawler does not exist."""
        ...

    def start(self) -> bool:
        """Start a crawl; False if one is already running, which is joined."""
        ...

    def stop(self) -> bool:
        """Stop the running crawl; False if none is running. Raises MissingError."""
        ...

    def history(self, limit: int) -> list[Crawl]:
        """The latest crawls, newest first, at most `limit`."""
        ...

    def last_seconds(self) -> float | None:
        """How long the last crawl took."""
        ...


class GlueCrawler:
    """The crawler in Glue."""

    def __init__(self, glue: GlueClient, settings: AnalyticsSettings) -> None:
        self._glue = glue
        self._settings = settings
        self._name = settings.crawler

    def status(self) -> CrawlerStatus:
        """The current status. Raises MissingError if the crawler does not exist."""
        with explained(self._settings, f"reading the status of the crawler {self._name}"):
            raw: Any = self._glue.get_crawler(Name=self._name)["Crawler"]
        last = raw.get("LastCrawl")
        return CrawlerStatus(
            state=raw["State"],
            running_seconds=raw.get("CrawlElapsedTime", 0) / 1000 if raw["State"] != READY else 0.0,
            last=_last(last) if last and last.get("Status") else None,
        )

    def start(self) -> bool:
        """Start a crawl; False if one is already running, which is joined."""
        with explained(self._settings, f"starting the crawler {self._name}"):
            try:
                self._glue.start_crawler(Name=self._name)
            except ClientError as error:
                if edge.code(error) not in _BUSY:
                    raise
                return False
        return True

    def stop(self) -> bool:
        """Stop the running crawl; False if none is running, or it is already stopping."""
        with explained(self._settings, f"stopping the crawler {self._name}"):
            try:
                self._glue.stop_crawler(Name=self._name)
            except ClientError as error:
                if edge.code(error) not in ("CrawlerNotRunningException", "CrawlerStoppingException"):
                    raise
                return False
        return True

    def history(self, limit: int) -> list[Crawl]:
        """The latest crawls, newest first, at most `limit`.

        A local stand-in for Glue without `ListCrawls` has only one crawl.
        """
        with explained(self._settings, f"listing the crawls of {self._name}"):
            try:
                raw = self._glue.list_crawls(CrawlerName=self._name, MaxResults=limit)["Crawls"]
            except ClientError as error:
                if edge.code(error) != "InvalidAction":
                    raise
                last = self.status().last
                return [last] if last else []
        return [_listed(each) for each in raw]

    def last_seconds(self) -> float | None:
        """How long the last crawl took."""
        with explained(self._settings, f"reading the metrics of the crawler {self._name}"):
            found = self._glue.get_crawler_metrics(CrawlerNameList=[self._name])["CrawlerMetricsList"]
        return found[0].get("LastRuntimeSeconds") if found else None


def _last(raw: Any) -> Crawl:
    return Crawl(outcome=raw["Status"], started=raw.get("StartTime"), error=raw.get("ErrorMessage"))


def _listed(raw: Any) -> Crawl:
    started, ended = raw.get("StartTime"), raw.get("EndTime")
    return Crawl(
        # ListCrawls returns COMPLETED and STOPPED, GetCrawler returns SUCCEEDED and CANCELLED.
        outcome={"COMPLETED": "SUCCEEDED", "STOPPED": "CANCELLED"}.get(raw["State"], raw["State"]),
        started=started,
        seconds=(ended - started).total_seconds() if started and ended else None,
        error=raw.get("ErrorMessage"),
        dpu_hours=raw.get("DPUHour"),
    )


def wait_for_crawl(
    crawler: Crawler,
    limit: float,
    *,
    progress: Callable[[CrawlerStatus], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Crawl:
    """Wait up to `limit` seconds until no crawl is running, and return the last one.

    Raises:
        CrawlFailedError: the crawl did not succeed, with Glue's message.
        UnavailableError: it is still running, and is not stopped.
    """
    start, pause = clock(), _FIRST_POLL
    while (status := crawler.status()).running:
        progress(status)
        if clock() - start > limit:
            raise UnavailableError(
                f"the crawl is still running after {limit:g} s and continues in Glue. "
                "LAKEFEED_CRAWL_TIMEOUT_SECONDS sets how long to wait"
            )
        sleep(pause)
        pause = min(pause * 1.5, _LONGEST_POLL)
    if status.last is None:
        raise CrawlFailedError("the crawler is ready, but has never run a crawl")
    if status.last.outcome != "SUCCEEDED":
        reason = status.last.error or "Glue gives no reason; see its log group /aws-glue/crawlers"
        raise CrawlFailedError(f"the crawl ended with {status.last.outcome}: {reason}")
    return status.last
