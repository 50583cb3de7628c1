"""When a crawl is started, and how its end is noticed."""

from __future__ import annotations

from itertools import pairwise

import pytest

from lakefeed_analytics.crawl import wait_for_crawl
from lakefeed_analytics.crawls import CrawlKeeper
from lakefeed_analytics.errors import CrawlFailedError
from lakefeed_analytics.metrics import AnalyticsMetrics
from lakefeed_analytics.parts import Parts
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common.errors import UnavailableError
from tests.unit.analytics.fakes import Clock, MemoryCatalogue, MemoryCrawler, MemoryEngine, MemoryFolders


class World:
    """A keeper over fakes, with its clock in the test's hand."""

    def __init__(self, **settings: float) -> None:
        self.catalogue, self.crawler, self.folders = MemoryCatalogue(), MemoryCrawler(), MemoryFolders()
        self.clock = Clock()
        self.metrics = AnalyticsMetrics()
        parts = Parts({}, self.catalogue, self.crawler, self.folders, MemoryEngine())
        self.keeper = CrawlKeeper(
            parts,
            self.metrics,
            AnalyticsSettings.model_validate({"topics": "prices,other", **settings}),
            self.clock,
        )

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def crawl_ends(self, outcome: str = "SUCCEEDED") -> None:
        """The running crawl ends; a good one makes a partition of each folder."""
        if outcome == "SUCCEEDED":
            for topic, day in self.folders.folders:
                self.catalogue.add(topic, day)
        self.crawler.end(outcome)


def test_nothing_stored_nothing_crawled() -> None:
    world = World()
    assert world.keeper.look() == 30
    assert world.crawler.starts == 0


def test_a_new_folder_starts_a_crawl_and_only_one() -> None:
    world = World()
    world.folders.folders.add(("prices", "2026-01-01"))
    assert world.keeper.look() == 2
    assert world.crawler.starts == 1
    assert world.value("lakefeed_analytics_folders_pending") == 1
    assert world.keeper.look() == 2
    assert world.value("lakefeed_analytics_crawler_state", state="RUNNING") == 1
    world.crawl_ends()
    assert world.keeper.look() == 30
    world.clock.now += 10_000
    world.keeper.look()
    assert world.crawler.starts == 1
    assert world.value("lakefeed_analytics_folders_pending") == 0
    assert world.value("lakefeed_analytics_crawls_total", outcome="SUCCEEDED") == 1
    assert world.value("lakefeed_analytics_crawl_seconds_sum") == 7
    assert world.value("lakefeed_analytics_partitions", table="prices") == 1
    assert world.value("lakefeed_analytics_partitions", table="other") == 0
    assert world.value("lakefeed_analytics_tables") == 1
    assert world.value("lakefeed_analytics_crawler_state", state="READY") == 1


def test_a_table_that_somebody_deleted_is_crawled_again() -> None:
    world = World()
    world.folders.folders |= {("prices", "2026-01-01"), ("other", "2026-01-01")}
    world.keeper.look()
    world.crawl_ends()
    world.keeper.look()
    del world.catalogue.contents["prices"]
    world.clock.now += 100
    world.keeper.look()
    assert world.crawler.starts == 2
    assert world.value("lakefeed_analytics_folders_pending") == 1
    assert world.value("lakefeed_analytics_tables") == 1
    world.crawl_ends()
    world.clock.now += 100
    world.keeper.look()
    assert world.crawler.starts == 2


def test_what_the_catalogue_knows_needs_no_crawl_after_a_restart() -> None:
    world = World()
    world.folders.folders.add(("prices", "2026-01-01"))
    world.catalogue.add("prices", "2026-01-01")
    world.keeper.look()
    assert world.crawler.starts == 0


def test_the_next_day_waits_for_the_least_interval() -> None:
    world = World(crawl_min_interval_seconds=60)
    world.folders.folders.add(("prices", "2026-01-01"))
    world.keeper.look()
    world.crawl_ends()
    world.folders.folders.add(("prices", "2026-01-02"))
    world.clock.now += 59
    world.keeper.look()
    assert world.crawler.starts == 1
    world.clock.now += 1
    world.keeper.look()
    assert world.crawler.starts == 2


def test_a_folder_that_gives_no_partition_is_not_crawled_for_ever() -> None:
    world = World()
    world.folders.folders.add(("prices", "2026-01-01"))
    world.keeper.look()
    world.crawler.end()
    for _ in range(5):
        world.clock.now += 1000
        world.keeper.look()
    assert world.crawler.starts == 1


def test_a_folder_that_came_during_a_crawl_gets_the_next_one() -> None:
    world = World()
    world.folders.folders.add(("prices", "2026-01-01"))
    world.keeper.look()
    world.catalogue.add("prices", "2026-01-01")
    world.folders.folders.add(("prices", "2026-01-02"))
    world.crawler.end()
    world.clock.now += 1000
    world.keeper.look()
    assert world.crawler.starts == 2


def test_failed_crawls_come_at_growing_distances() -> None:
    world = World(crawl_min_interval_seconds=60)
    world.folders.folders.add(("prices", "2026-01-01"))
    starts = []
    for second in range(0, 30_000, 10):
        world.clock.now = second
        world.keeper.look()
        if world.crawler.running:
            starts.append(second)
            world.crawler.end("FAILED", "no access")
    distances = [after - before for before, after in pairwise(starts)]
    assert distances[:4] == [120, 240, 480, 960]
    assert max(distances) == 3600
    assert world.value("lakefeed_analytics_crawls_total", outcome="FAILED") == len(starts)


def test_the_interval_crawls_without_new_folders() -> None:
    world = World(crawl_interval_seconds=600)
    world.catalogue.add("prices", "2026-01-01")
    world.clock.now = 599
    world.keeper.look()
    assert world.crawler.starts == 0
    world.clock.now = 600
    world.keeper.look()
    assert world.crawler.starts == 1


def test_a_crawl_that_somebody_else_ran_is_counted_but_not_one_from_before() -> None:
    world = World()
    world.crawler.end()
    world.keeper.look()
    assert world.value("lakefeed_analytics_crawls_total", outcome="SUCCEEDED") == 0
    world.crawler.end()
    world.keeper.look()
    assert world.value("lakefeed_analytics_crawls_total", outcome="SUCCEEDED") == 1
    assert world.value("lakefeed_analytics_crawl_last_success_timestamp_seconds")


def test_a_joined_crawl_does_not_settle_the_folder() -> None:
    world = World()
    world.keeper.look()
    world.folders.folders.add(("prices", "2026-01-01"))
    world.crawler.start()
    world.keeper.look()
    world.crawler.end()
    world.keeper.look()
    assert world.crawler.starts == 2


def test_waiting_for_a_crawl() -> None:
    crawler, clock, told = MemoryCrawler(), Clock(), []
    crawler.start()

    def progress(status: object) -> None:
        told.append(status)
        if len(told) == 3:
            crawler.end()

    assert wait_for_crawl(crawler, 60, progress=progress, sleep=clock.sleep, clock=clock).seconds == 7
    assert len(told) == 3


def test_a_failed_crawl_tells_glues_reason() -> None:
    crawler = MemoryCrawler()
    crawler.end("FAILED", "Insufficient Lake Formation permission")
    with pytest.raises(CrawlFailedError, match="FAILED: Insufficient Lake Formation permission"):
        wait_for_crawl(crawler, 60)


def test_a_long_crawl_is_left_to_itself() -> None:
    crawler, clock = MemoryCrawler(), Clock()
    crawler.start()
    with pytest.raises(UnavailableError, match="LAKEFEED_CRAWL_TIMEOUT_SECONDS"):
        wait_for_crawl(crawler, 60, sleep=clock.sleep, clock=clock)
    assert crawler.running
