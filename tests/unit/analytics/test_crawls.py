"""When a crawl is started, and how its end is noticed."""

from __future__ import annotations

from itertools import pairwise

import pytest

from lakefeed_analytics.catalogue import Column
from lakefeed_analytics.crawl import wait_for_crawl
from lakefeed_analytics.crawls import CrawlKeeper
from lakefeed_analytics.errors import CrawlFailedError
from lakefeed_analytics.metrics import AnalyticsMetrics
from lakefeed_analytics.parts import Parts
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common.errors import UnavailableError
from tests.helpers.analytics.fakes import Clock, MemoryCatalogue, MemoryCrawler, MemoryEngine, MemoryFolders


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
    assert world.keeper.check() == 30
    assert world.crawler.starts == 0


def test_a_new_folder_starts_a_crawl_and_only_one() -> None:
    world = World()
    world.folders.folders.add(("prices", "2026-01-01"))
    assert world.keeper.check() == 2
    assert world.crawler.starts == 1
    assert world.value("lakefeed_analytics_folders_pending") == 1
    assert world.keeper.check() == 2
    assert world.value("lakefeed_analytics_crawler_state", state="RUNNING") == 1
    world.crawl_ends()
    assert world.keeper.check() == 30
    world.clock.now += 10_000
    world.keeper.check()
    assert world.crawler.starts == 1
    assert world.value("lakefeed_analytics_folders_pending") == 0
    assert world.value("lakefeed_analytics_crawls_total", outcome="SUCCEEDED") == 1
    assert world.value("lakefeed_analytics_crawl_seconds_sum") == 7
    assert world.value("lakefeed_analytics_partitions", table="prices") == 1
    assert world.value("lakefeed_analytics_partitions", table="other") == 0
    assert world.value("lakefeed_analytics_tables") == 1
    assert world.value("lakefeed_analytics_crawler_state", state="READY") == 1


def test_a_deleted_table_is_crawled_again() -> None:
    world = World()
    world.folders.folders |= {("prices", "2026-01-01"), ("other", "2026-01-01")}
    world.keeper.check()
    world.crawl_ends()
    world.keeper.check()
    del world.catalogue.contents["prices"]
    world.clock.now += 100
    world.keeper.check()
    assert world.crawler.starts == 2
    assert world.value("lakefeed_analytics_folders_pending") == 1
    assert world.value("lakefeed_analytics_tables") == 1
    world.crawl_ends()
    world.clock.now += 100
    world.keeper.check()
    assert world.crawler.starts == 2


def test_what_the_catalogue_knows_needs_no_crawl_after_a_restart() -> None:
    world = World()
    world.folders.folders.add(("prices", "2026-01-01"))
    world.catalogue.add("prices", "2026-01-01")
    world.keeper.check()
    assert world.crawler.starts == 0


def test_the_next_day_waits_for_the_least_interval() -> None:
    world = World(crawl_min_interval_seconds=60)
    world.folders.folders.add(("prices", "2026-01-01"))
    world.keeper.check()
    world.crawl_ends()
    world.folders.folders.add(("prices", "2026-01-02"))
    world.clock.now += 59
    world.keeper.check()
    assert world.crawler.starts == 1
    world.clock.now += 1
    world.keeper.check()
    assert world.crawler.starts == 2


def test_a_folder_without_a_partition_is_crawled_only_once() -> None:
    world = World()
    world.folders.folders.add(("prices", "2026-01-01"))
    world.keeper.check()
    world.crawler.end()
    for _ in range(5):
        world.clock.now += 1000
        world.keeper.check()
    assert world.crawler.starts == 1


def test_a_folder_that_came_during_a_crawl_gets_the_next_one() -> None:
    world = World()
    world.folders.folders.add(("prices", "2026-01-01"))
    world.keeper.check()
    world.catalogue.add("prices", "2026-01-01")
    world.folders.folders.add(("prices", "2026-01-02"))
    world.crawler.end()
    world.clock.now += 1000
    world.keeper.check()
    assert world.crawler.starts == 2


def test_failed_crawls_come_at_growing_distances() -> None:
    world = World(crawl_min_interval_seconds=60)
    world.folders.folders.add(("prices", "2026-01-01"))
    starts = []
    for second in range(0, 30_000, 10):
        world.clock.now = second
        world.keeper.check()
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
    world.keeper.check()
    assert world.crawler.starts == 0
    world.clock.now = 600
    world.keeper.check()
    assert world.crawler.starts == 1


def test_a_crawl_of_another_client_is_counted_but_not_earlier_ones() -> None:
    world = World()
    world.crawler.end()
    world.keeper.check()
    assert world.value("lakefeed_analytics_crawls_total", outcome="SUCCEEDED") == 0
    world.crawler.end()
    world.keeper.check()
    assert world.value("lakefeed_analytics_crawls_total", outcome="SUCCEEDED") == 1
    assert world.value("lakefeed_analytics_crawl_last_success_timestamp_seconds")


def test_a_joined_crawl_does_not_settle_the_folder() -> None:
    world = World()
    world.keeper.check()
    world.folders.folders.add(("prices", "2026-01-01"))
    world.crawler.start()
    world.keeper.check()
    world.crawler.end()
    world.keeper.check()
    assert world.crawler.starts == 2


def test_a_crawl_that_outlived_a_restart_is_counted_once() -> None:
    world = World()
    world.crawler.end()
    world.crawler.start()
    world.keeper.check()
    world.crawl_ends()
    world.keeper.check()
    world.keeper.check()
    assert world.value("lakefeed_analytics_crawls_total", outcome="SUCCEEDED") == 1
    assert world.crawler.starts == 1


@pytest.mark.parametrize(
    ("outcome", "error", "said"),
    [
        ("FAILED", "no access", "the last crawl ended with FAILED: no access. Check the permissions"),
        ("FAILED", None, "Glue gives no reason; see its log group /aws-glue/crawlers"),
        ("CANCELLED", None, "the last crawl was cancelled"),
    ],
)
def test_a_crawl_without_success_is_a_problem_while_a_folder_waits(
    outcome: str, error: str | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    world.folders.folders.add(("prices", "2026-01-01"))
    world.keeper.check()
    assert world.keeper.problem is None
    world.crawler.end(outcome, error)
    world.keeper.check()
    assert said in (world.keeper.problem or "")
    assert "The crawl is retried in 120 s" in caplog.text
    assert world.value("lakefeed_analytics_crawls_total", outcome=outcome) == 1
    world.clock.now += 120
    world.keeper.check()
    assert world.crawler.starts == 2
    world.crawl_ends()
    world.keeper.check()
    assert world.keeper.problem is None
    # Nothing is pending: a failed crawl of another client does not affect the data.
    world.crawler.end(outcome, error)
    world.keeper.check()
    assert world.keeper.problem is None


def test_a_crawl_that_takes_too_long_is_reported_and_not_stopped() -> None:
    world = World(crawl_timeout_seconds=3600)
    world.folders.folders.add(("prices", "2026-01-01"))
    world.keeper.check()
    world.crawler.running_seconds = 3600
    world.keeper.check()
    assert world.keeper.problem is None
    world.crawler.running_seconds = 3601
    world.keeper.check()
    assert "running for more than 3600 s" in (world.keeper.problem or "")
    assert world.crawler.running
    world.crawl_ends()
    world.keeper.check()
    assert world.keeper.problem is None


def test_a_recreated_crawler_does_not_end_a_crawl() -> None:
    world = World()
    world.folders.folders.add(("prices", "2026-01-01"))
    world.keeper.check()
    world.crawler.running = False
    world.crawler.crawls.clear()
    world.clock.now += 60
    world.keeper.check()
    assert world.crawler.starts == 2
    for outcome in ("SUCCEEDED", "FAILED", "CANCELLED"):
        assert world.value("lakefeed_analytics_crawls_total", outcome=outcome) == 0


def catalogued() -> World:
    """A world with a day of prices that has been crawled."""
    world = World()
    world.folders.folders.add(("prices", "2026-01-01"))
    world.keeper.check()
    world.crawl_ends()
    world.keeper.check()
    world.clock.now += 100
    return world


def test_manually_changed_columns_are_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    world = catalogued()
    before = world.catalogue.columns
    world.catalogue.columns = (Column("ticker", "bigint"), *before[2:], Column("x", "string"))
    world.keeper.check()
    world.keeper.check()
    said = "Table prices was changed manually: date was removed, ticker is bigint, was string, x was added"
    assert caplog.text.count(said) == 1
    assert world.crawler.starts == 1
    # Changes made by a crawl are not reported.
    caplog.clear()
    world.crawler.end()
    world.catalogue.columns = before
    world.keeper.check()
    assert "was changed manually" not in caplog.text


def test_a_table_that_reads_another_place_is_a_problem_until_it_is_back() -> None:
    world = catalogued()
    world.catalogue.places["prices"] = "s3://lakefeed/elsewhere/"
    world.keeper.check()
    problem = world.keeper.problem or ""
    assert problem.startswith(
        "the location of the table prices is s3://lakefeed/elsewhere/, not s3://lakefeed/events/prices/"
    )
    world.keeper.check()
    assert world.keeper.problem == problem
    del world.catalogue.places["prices"]
    world.keeper.check()
    assert world.keeper.problem is None


def test_a_deleted_partition_is_crawled_again(caplog: pytest.LogCaptureFixture) -> None:
    world = catalogued()
    world.catalogue.contents["prices"].clear()
    world.clock.now += 499
    world.keeper.check()
    assert world.crawler.starts == 1
    world.clock.now += 101
    world.keeper.check()
    assert world.crawler.starts == 2
    assert "1 partitions were deleted or moved (prices 2026-01-01)" in caplog.text


def test_a_partition_that_went_with_its_objects_starts_no_crawl(caplog: pytest.LogCaptureFixture) -> None:
    world = catalogued()
    world.catalogue.contents["prices"].clear()
    world.folders.folders.clear()
    world.clock.now += 600
    world.keeper.check()
    assert world.crawler.starts == 1
    assert "deleted or moved" not in caplog.text


def test_a_crawl_that_creates_no_table_is_a_problem_until_it_exists() -> None:
    world = World()
    world.folders.folders |= {("prices", "2026-01-01"), ("other", "2026-01-01")}
    world.keeper.check()
    world.catalogue.add("other", "2026-01-01")
    world.crawler.end()
    world.keeper.check()
    problem = world.keeper.problem or ""
    assert problem.startswith(
        "a crawl succeeded but created no table prices for s3://lakefeed/events/prices/."
    )
    assert "target of the crawler lakefeed" in problem
    assert "table other" not in problem
    # It stays the same text; a crawl of nothing is not bought again and again.
    world.clock.now += 10_000
    world.keeper.check()
    assert world.keeper.problem == problem
    assert world.crawler.starts == 1
    world.catalogue.add("prices", "2026-01-01")
    world.keeper.check()
    assert world.keeper.problem is None


def test_a_table_of_another_name_at_the_topics_place_is_named() -> None:
    world = World()
    world.folders.folders.add(("prices", "2026-01-01"))
    world.keeper.check()
    world.catalogue.add("prices_1f2e", "2026-01-01")
    world.catalogue.places["prices_1f2e"] = "s3://lakefeed/events/prices"
    world.crawler.end()
    world.keeper.check()
    assert "The table prices_1f2e has that location. Delete it" in (world.keeper.problem or "")


def test_no_objects_no_table_no_problem() -> None:
    world = World(crawl_interval_seconds=60)
    world.clock.now = 60
    world.keeper.check()
    world.crawler.end()
    world.keeper.check()
    assert world.crawler.starts == 1
    assert world.keeper.problem is None


def test_waiting_for_a_crawl() -> None:
    crawler, clock, reported = MemoryCrawler(), Clock(), []
    crawler.start()

    def progress(status: object) -> None:
        reported.append(status)
        if len(reported) == 3:
            crawler.end()

    assert wait_for_crawl(crawler, 60, progress=progress, sleep=clock.sleep, clock=clock).seconds == 7
    assert len(reported) == 3


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
