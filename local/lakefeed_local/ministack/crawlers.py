"""Glue's crawlers: RUNNING while a crawl runs, STOPPING after StopCrawler, and LastCrawl with its outcome.

MiniStack keeps what crawlers are defined as; its own crawler is a timer that makes no table.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from lakefeed_common.errors import LakefeedError
from lakefeed_local.crawl.changes import Changes
from lakefeed_local.ministack.asgi import Action, Answer, Call
from lakefeed_local.ministack.history import Crawl, History, Key

log = logging.getLogger(__name__)

CrawlFunction = Callable[[dict[str, Any], tuple[str, str], Changes], Awaitable[None]]
"""Crawls for a crawler as GetCrawler shows it, in an account and a region, and reports what it changed."""


class Crawlers:
    """The actions of Glue about crawlers.

    Args:
        crawl: does a crawl.
        history: the crawls until now.
    """

    def __init__(self, crawl: CrawlFunction, history: History) -> None:
        self._crawl = crawl
        self._history = history
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._stopping: set[Key] = set()

    @property
    def actions(self) -> Mapping[str, Action]:
        """By `X-Amz-Target`."""
        return {
            "AWSGlue.CreateCrawler": self._create,
            "AWSGlue.UpdateCrawler": self._update,
            "AWSGlue.DeleteCrawler": self._delete,
            "AWSGlue.GetCrawler": self._get,
            "AWSGlue.GetCrawlers": self._get_all,
            "AWSGlue.StartCrawler": self._start,
            "AWSGlue.StopCrawler": self._stop,
            "AWSGlue.ListCrawls": self._list_crawls,
            "AWSGlue.GetCrawlerMetrics": self._metrics,
        }

    async def _create(self, call: Call) -> Answer:
        answer = await call.forward()
        if answer.succeeded:
            self._history.forget(_key(call))
        return answer

    async def _update(self, call: Call) -> Answer:
        return _already_running(_key(call)) if _key(call) in self._tasks else await call.forward()

    async def _delete(self, call: Call) -> Answer:
        if _key(call) in self._tasks:
            return _already_running(_key(call))
        answer = await call.forward()
        if answer.succeeded:
            self._history.forget(_key(call))
        return answer

    async def _get(self, call: Call) -> Answer:
        answer = await call.forward()
        if answer.succeeded:
            self._show(call, answer.data["Crawler"])
        return answer

    async def _get_all(self, call: Call) -> Answer:
        answer = await call.forward()
        for crawler in answer.data.get("Crawlers", []):
            self._show(call, crawler)
        return answer

    def _show(self, call: Call, crawler: dict[str, Any]) -> None:
        """Complete MiniStack's description of a crawler."""
        key = (*call.owner, crawler["Name"])
        crawler |= {"State": "READY", "CrawlElapsedTime": 0, "LastCrawl": None}
        if ended := self._history.ended(key):
            crawler["LastCrawl"] = ended[-1].as_last(crawler["Name"])
        if key in self._tasks:
            crawler["State"] = "STOPPING" if key in self._stopping else "RUNNING"
            crawler["CrawlElapsedTime"] = int(self._history.of(key)[-1].seconds * 1000)

    async def _start(self, call: Call) -> Answer:
        key = _key(call)
        found = await call.ask("GetCrawler", {"Name": key[-1]})
        if not found.succeeded:
            return found
        if key in self._tasks:
            return _already_running(key)
        crawl = self._history.begin(key)
        self._tasks[key] = asyncio.create_task(self._run(key, crawl, found.data["Crawler"]))
        return Answer.ok()

    async def _stop(self, call: Call) -> Answer:
        key = _key(call)
        found = await call.ask("GetCrawler", {"Name": key[-1]})
        if not found.succeeded:
            return found
        if key not in self._tasks:
            return Answer.error("CrawlerNotRunningException", f"Crawler {key[-1]} is not running")
        if key in self._stopping:
            return Answer.error("CrawlerStoppingException", f"Crawler {key[-1]} is stopping")
        self._stopping.add(key)
        self._tasks[key].cancel()
        return Answer.ok()

    async def _run(self, key: Key, crawl: Crawl, definition: dict[str, Any]) -> None:
        """Do one crawl and record its outcome, whatever happens."""
        changes = Changes()
        outcome, error = "SUCCEEDED", ""
        try:
            await self._crawl(definition, key[:2], changes)
        except asyncio.CancelledError:
            if key not in self._stopping:
                raise  # the process ends; its next start says so of this crawl
            outcome = "CANCELLED"
        except LakefeedError as failure:
            outcome, error = "FAILED", str(failure)
        except Exception as failure:
            log.exception("The crawl of %s failed", key[-1])
            outcome, error = "FAILED", f"Internal error: {failure!r}"
        crawl.counts, crawl.summary = changes.counts(), changes.summary()
        crawl.end(outcome, error)
        self._history.save()
        del self._tasks[key]
        self._stopping.discard(key)
        log.info(
            "Crawl of %s: %s in %.2f s, %s%s",
            key[-1],
            outcome,
            crawl.seconds,
            crawl.counts,
            error and f": {error}",
        )

    async def _list_crawls(self, call: Call) -> Answer:
        key = (*call.owner, call.data.get("CrawlerName", ""))
        found = await call.ask("GetCrawler", {"Name": key[-1]})
        if not found.succeeded:
            return found
        newest_first = self._history.of(key)[::-1]
        start = int(call.data.get("NextToken") or 0)
        end = start + int(call.data.get("MaxResults") or 20)
        answer: dict[str, Any] = {"Crawls": [crawl.as_entry(key[-1]) for crawl in newest_first[start:end]]}
        if end < len(newest_first):
            answer["NextToken"] = str(end)
        return Answer.ok(answer)

    async def _metrics(self, call: Call) -> Answer:
        answer = await call.forward()
        for metrics in answer.data.get("CrawlerMetricsList", []):
            key = (*call.owner, metrics["CrawlerName"])
            ended = self._history.ended(key)
            seconds = [crawl.seconds for crawl in ended]
            metrics |= {
                "StillEstimating": key in self._tasks,
                "LastRuntimeSeconds": seconds[-1] if seconds else 0.0,
                "MedianRuntimeSeconds": statistics.median(seconds) if seconds else 0.0,
                **(ended[-1].counts if ended else {}),
            }
        return answer


def _key(call: Call) -> Key:
    return (*call.owner, call.data.get("Name", ""))


def _already_running(key: Key) -> Answer:
    return Answer.error("CrawlerRunningException", f"Crawler with name {key[-1]} has already started")
