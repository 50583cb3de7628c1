"""Crawlers of the local AWS have the states and outcomes that Glue's have."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lakefeed_common.errors import RefusedError
from lakefeed_local.crawl.changes import Changes
from lakefeed_local.ministack.asgi import (
    Actions,
    App,
    Credential,
    Receive,
    Response,
    Scope,
    Send,
    request,
    respond,
)
from lakefeed_local.ministack.crawlers import Crawlers
from lakefeed_local.ministack.history import History


class Glue:
    """The crawlers as MiniStack keeps them."""

    def __init__(self) -> None:
        self.crawlers: dict[str, dict[str, Any]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        data = json.loads((await receive())["body"])
        action = dict(scope["headers"])[b"x-amz-target"].decode().removeprefix("AWSGlue.")
        name = data.get("Name")
        status: int = 200
        answer: dict[str, Any] = {}
        if action == "GetCrawlers":
            answer = {"Crawlers": [dict(each) for each in self.crawlers.values()]}
        elif action == "GetCrawlerMetrics":
            answer = {"CrawlerMetricsList": [{"CrawlerName": each} for each in self.crawlers]}
        elif action == "CreateCrawler":
            self.crawlers[name] = {"State": "READY", **data}
        elif name not in self.crawlers:
            status, answer = (
                400,
                {"__type": "EntityNotFoundException", "message": f"Crawler {name} not found"},
            )
        elif action == "GetCrawler":
            answer = {"Crawler": dict(self.crawlers[name])}
        elif action == "UpdateCrawler":
            self.crawlers[name] |= data
        elif action == "DeleteCrawler":
            del self.crawlers[name]
        await respond(send, Response(status, [], json.dumps(answer).encode()))


class HeldCrawl:
    """A crawl that begins, and ends when the test releases it."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.released = asyncio.Event()
        self.error: Exception | None = None
        self.owner = ("", "")

    async def __call__(self, _crawler: dict[str, Any], owner: tuple[str, str], changes: Changes) -> None:
        self.owner = owner
        changes.created.append("orders")
        self.begun.set()
        await self.released.wait()
        if self.error is not None:
            raise self.error


class World:
    """A Glue with crawlers, and its caller."""

    def __init__(self, file: Path) -> None:
        self.crawl = HeldCrawl()
        self.glue = Glue()
        self.app: App = Actions(self.glue, Crawlers(self.crawl, History(file)).actions)

    async def call(self, action: str, account: str = "111111111111", **data: Any) -> dict[str, Any]:
        headers = {
            "x-amz-target": f"AWSGlue.{action}",
            "authorization": Credential(account, "eu-west-1", "glue").header(),
        }
        scope = {
            "type": "http",
            "headers": [(name.encode(), text.encode()) for name, text in headers.items()],
        }
        answer: dict[str, Any] = json.loads((await request(self.app, scope, json.dumps(data).encode())).body)
        return answer

    async def crawler(self) -> dict[str, Any]:
        return dict((await self.call("GetCrawler", Name="c"))["Crawler"])

    async def until_ready(self) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while (crawler := await self.crawler())["State"] != "READY":
                await asyncio.sleep(0)
        return crawler

    async def crawling(self) -> None:
        """Create the crawler, start it, and wait until its crawl has begun."""
        await self.call("CreateCrawler", Name="c")
        assert await self.call("StartCrawler", Name="c") == {}
        async with asyncio.timeout(30):
            await self.crawl.begun.wait()


Scenario = Callable[[World], Any]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Scenario], None]:
    def in_loop(scenario: Scenario) -> None:
        async def main() -> None:
            await scenario(World(tmp_path / "crawls.json"))

        asyncio.run(main())

    return in_loop


def test_a_crawler_runs_until_its_crawl_has_ended(run: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        await world.crawling()
        running = await world.crawler()
        assert (running["State"], running["LastCrawl"]) == ("RUNNING", None)
        assert (await world.call("ListCrawls", CrawlerName="c"))["Crawls"][0]["State"] == "RUNNING"
        assert (await world.call("StartCrawler", Name="c"))["__type"] == "CrawlerRunningException"
        world.crawl.released.set()
        assert (await world.until_ready())["LastCrawl"]["Status"] == "SUCCEEDED"
        [metrics] = (await world.call("GetCrawlerMetrics"))["CrawlerMetricsList"]
        assert (metrics["TablesCreated"], metrics["StillEstimating"]) == (1, False)
        [crawl] = (await world.call("ListCrawls", CrawlerName="c"))["Crawls"]
        assert crawl["State"] == "COMPLETED"
        assert json.loads(crawl["Summary"])["TABLE"]["ADD"]["Details"]["names"] == ["orders"]
        assert world.crawl.owner == ("111111111111", "eu-west-1")
        assert [each["State"] for each in (await world.call("GetCrawlers"))["Crawlers"]] == ["READY"]

    run(scenario)


def test_a_stopped_crawl_ends_cancelled(run: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        await world.crawling()
        assert await world.call("StopCrawler", Name="c") == {}
        assert (await world.until_ready())["LastCrawl"]["Status"] == "CANCELLED"
        assert (await world.call("ListCrawls", CrawlerName="c"))["Crawls"][0]["State"] == "STOPPED"
        assert (await world.call("StopCrawler", Name="c"))["__type"] == "CrawlerNotRunningException"
        assert await world.call("StartCrawler", Name="c") == {}

    run(scenario)


def test_a_crawl_that_takes_a_while_to_stop_is_stopping(tmp_path: Path) -> None:
    async def main() -> None:
        world, stopped = World(tmp_path / "crawls.json"), asyncio.Event()

        async def slow(*_: Any) -> None:
            world.crawl.begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await stopped.wait()
                raise

        world.app = Actions(world.glue, Crawlers(slow, History(tmp_path / "crawls.json")).actions)
        await world.crawling()
        await world.call("StopCrawler", Name="c")
        assert (await world.crawler())["State"] == "STOPPING"
        assert (await world.call("StopCrawler", Name="c"))["__type"] == "CrawlerStoppingException"
        stopped.set()
        await world.until_ready()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RefusedError("no access to s3://lake"), "no access to s3://lake"),
        (KeyError("x"), "Internal error: KeyError('x')"),
    ],
)
def test_a_failed_crawl_has_its_error(
    run: Callable[[Scenario], None], error: Exception, message: str
) -> None:
    async def scenario(world: World) -> None:
        world.crawl.error = error
        world.crawl.released.set()
        await world.crawling()
        last = (await world.until_ready())["LastCrawl"]
        assert (last["Status"], last["ErrorMessage"]) == ("FAILED", message)

    run(scenario)


def test_a_running_crawler_cannot_be_changed(run: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        await world.crawling()
        for action in ("UpdateCrawler", "DeleteCrawler"):
            assert (await world.call(action, Name="c"))["__type"] == "CrawlerRunningException"
        world.crawl.released.set()
        await world.until_ready()
        assert await world.call("UpdateCrawler", Name="c", Role="r") == {}
        assert await world.call("DeleteCrawler", Name="c") == {}
        # A new one of the same name has not crawled.
        await world.call("CreateCrawler", Name="c")
        assert (await world.crawler())["LastCrawl"] is None

    run(scenario)


def test_accounts_do_not_share_crawls(run: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        await world.crawling()
        other = (await world.call("GetCrawler", "222222222222", Name="c"))["Crawler"]
        assert other["State"] == "READY"

    run(scenario)


def test_a_missing_crawler_is_an_error(run: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        for action in ("StartCrawler", "StopCrawler", "GetCrawler", "ListCrawls"):
            answer = await world.call(action, Name="none", CrawlerName="none")
            assert answer["__type"] == "EntityNotFoundException", action

    run(scenario)


def test_crawls_are_listed_newest_first_in_pages(tmp_path: Path) -> None:
    async def main() -> None:
        history = History(tmp_path / "crawls.json")
        world = World(tmp_path / "crawls.json")
        await world.call("CreateCrawler", Name="c")
        started = [history.begin(("111111111111", "eu-west-1", "c")) for _ in range(3)]
        for crawl in started:
            crawl.end("SUCCEEDED")
        history.save()
        world.app = Actions(world.glue, Crawlers(world.crawl, history).actions)
        first = await world.call("ListCrawls", CrawlerName="c", MaxResults=2)
        rest = await world.call("ListCrawls", CrawlerName="c", MaxResults=2, NextToken=first["NextToken"])
        listed = [crawl["CrawlId"] for crawl in first["Crawls"] + rest["Crawls"]]
        assert listed == [crawl.id for crawl in reversed(started)]
        assert "NextToken" not in rest

    asyncio.run(main())


def test_a_restart_keeps_crawls_and_fails_those_that_ran(tmp_path: Path) -> None:
    file = tmp_path / "crawls.json"

    async def before() -> None:
        world = World(file)
        world.crawl.released.set()
        await world.crawling()
        await world.until_ready()
        world.crawl.begun.clear()
        world.crawl.released.clear()
        await world.call("StartCrawler", Name="c")
        async with asyncio.timeout(30):
            await world.crawl.begun.wait()

    asyncio.run(before())

    interrupted, succeeded = reversed(History(file).of(("111111111111", "eu-west-1", "c")))
    assert (succeeded.outcome, succeeded.counts["TablesCreated"]) == ("SUCCEEDED", 1)
    assert (interrupted.outcome, interrupted.error) == (
        "FAILED",
        "The local AWS was stopped during the crawl.",
    )
