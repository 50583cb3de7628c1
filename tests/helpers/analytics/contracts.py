"""What the core relies on at each seam, asserted of the fakes and of the real ones alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lakefeed_analytics.athena import QueryEngine, wait_for_query
from lakefeed_analytics.catalogue import Catalogue, Column
from lakefeed_analytics.crawl import Crawler, wait_for_crawl
from lakefeed_analytics.errors import ConflictError, QueryFailedError
from lakefeed_analytics.folders import Folders
from lakefeed_common.errors import InputError, MissingError
from tests.helpers.waiting import wait_for

COUNT = 25
_NUMBERS = ", ".join(f"({number})" for number in range(COUNT))
NUMBERS = f"""
    SELECT CAST(n AS bigint) AS n, CAST(n AS double) / 2 AS half, n % 2 = 0 AS even,
        CASE WHEN n = 0 THEN NULL WHEN n = 1 THEN '' ELSE 'x' END AS text
    FROM (VALUES {_NUMBERS}) AS t (n) ORDER BY 1
"""  # noqa: S608 - made of numbers only
NUMBER_COLUMNS = [("n", "bigint"), ("half", "double"), ("even", "boolean"), ("text", "varchar")]
NUMBER_ROWS: list[list[str | int | float | bool | None]] = [
    [n, n / 2, n % 2 == 0, None if n == 0 else "" if n == 1 else "x"] for n in range(COUNT)
]
_TEN = "(VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9))"
_SUM = " + ".join(f"sqrt(t{n}.x)" for n in range(8))
_TENS = ", ".join(f"{_TEN} AS t{n} (x)" for n in range(8))
# A hundred million rows: longer than the tests need, and soon over for their neighbours.
SLOW = f"SELECT sum({_SUM}) AS total FROM {_TENS}"  # noqa: S608


class EngineContract:
    """Requires the fixture `engine`, which knows NUMBERS and SLOW."""

    def test_rows_are_typed_and_null_is_not_empty(self, engine: QueryEngine) -> None:
        query = engine.start(NUMBERS)
        assert wait_for_query(engine, query, 30).state == "SUCCEEDED"
        page = engine.page(query, None, 1000)
        assert [(column.name, column.type) for column in page.columns] == NUMBER_COLUMNS
        assert page.rows == NUMBER_ROWS
        assert [[type(value) for value in row] for row in page.rows] == [
            [type(value) for value in row] for row in NUMBER_ROWS
        ]
        assert page.next is None

    def test_pages_hold_each_row_once_in_order(self, engine: QueryEngine) -> None:
        query = engine.start(NUMBERS)
        wait_for_query(engine, query, 30)
        for limit in (2, 7, 24, 25):
            rows, token = [], None
            for _ in range(2 * COUNT):
                page = engine.page(query, token, limit)
                assert len(page.rows) <= limit
                assert len(page.columns) == len(NUMBER_COLUMNS)
                rows += page.rows
                token = page.next
                if token is None:
                    break
            assert rows == NUMBER_ROWS, limit

    def test_a_token_belongs_to_its_query(self, engine: QueryEngine) -> None:
        one, other = engine.start(NUMBERS), engine.start(NUMBERS)
        for query in (one, other):
            wait_for_query(engine, query, 30)
        token = engine.page(one, None, 5).next
        assert token
        for bad in (token[:-3], "x", "é", "WzEsMl0=", "bnVsbA=="):
            with pytest.raises(InputError):
                engine.page(one, bad, 5)
        with pytest.raises(InputError):
            engine.page(other, token, 5)

    def test_an_unknown_query_is_missing(self, engine: QueryEngine) -> None:
        for query in ("nope", "", " ", "a b", "\x00", "x" * 5000, "%00", "é"):
            with pytest.raises(MissingError):
                engine.status(query)
            with pytest.raises(MissingError):
                engine.page(query, None, 10)
            with pytest.raises(MissingError):
                engine.cancel(query)

    def test_a_failed_query_has_a_reason(self, engine: QueryEngine) -> None:
        query = engine.start("SELECT * FROM no_such_table")
        with pytest.raises(QueryFailedError) as caught:
            wait_for_query(engine, query, 30)
        status = engine.status(query)
        assert status.state == "FAILED"
        assert status.reason
        assert status.reason in str(caught.value)
        with pytest.raises(QueryFailedError):
            engine.page(query, None, 10)

    def test_a_running_query_has_no_rows_and_can_be_cancelled(self, engine: QueryEngine) -> None:
        query = engine.start(SLOW)
        with pytest.raises(ConflictError):
            engine.page(query, None, 10)
        engine.cancel(query)
        assert engine.status(query).state == "CANCELLED"
        engine.cancel(query)

    def test_cancelling_an_ended_query_changes_nothing(self, engine: QueryEngine) -> None:
        query = engine.start(NUMBERS)
        wait_for_query(engine, query, 30)
        engine.cancel(query)
        assert engine.status(query).state == "SUCCEEDED"

    def test_recent_and_several_statuses(self, engine: QueryEngine) -> None:
        started = [engine.start(NUMBERS) for _ in range(3)]
        for query in started:
            wait_for_query(engine, query, 30)
        assert set(started) <= {status.id for status in engine.recent(50)}
        assert len(engine.recent(2)) == 2
        found = engine.statuses([*started, "00000000-1111-0000-0000-000000000000"])
        assert {status.id for status in found} == set(started)
        assert engine.statuses([]) == []


class CatalogueContract:
    """Requires the fixtures `catalogue`, empty, and `fill`, which adds a table of a day's events."""

    def test_tables_and_partitions(self, catalogue: Catalogue, fill: Callable[..., None]) -> None:
        assert catalogue.tables() == []
        fill("prices", "2026-01-02", "2026-01-01")
        fill("a_table", "2026-01-01")
        assert [table.name for table in catalogue.tables()] == ["a_table", "prices"]
        table = catalogue.table("prices")
        assert table.columns[0] == Column("ticker", "string")
        assert table.columns[-1] == Column("dt", "string", partition=True)
        assert table.location.endswith("/events/prices/")
        partitions = catalogue.partitions("prices")
        assert [partition.values for partition in partitions] == [("2026-01-01",), ("2026-01-02",)]
        assert partitions[0].location.rstrip("/").endswith("/events/prices/dt=2026-01-01")

    def test_an_unknown_table_is_missing(self, catalogue: Catalogue) -> None:
        for name in ("nope", "", "x" * 300, 'a"b', "a\x00b", "../x", "é"):
            with pytest.raises(MissingError):
                catalogue.table(name)
            with pytest.raises(MissingError):
                catalogue.partitions(name)


class CrawlerContract:
    """Requires the fixtures `crawler`, which has not crawled, and `finish`, which ends a crawl."""

    def test_a_crawl_starts_once_and_ends(self, crawler: Crawler, finish: Callable[[], None]) -> None:
        before = crawler.status()
        assert before.state == "READY"
        assert before.last is None
        assert crawler.history(10) == []
        crawls, seen = 0, False
        while not seen:
            assert crawls < 10, "no crawl was seen running"
            assert crawler.start()
            running, another = crawler.status().running, crawler.start()
            crawls += 1 + another
            seen = running and not another
            if not seen:
                wait_for_crawl(crawler, 60)  # it was quicker than we
        finish()
        last = wait_for_crawl(crawler, 60)
        assert last.outcome == "SUCCEEDED"
        assert last.started is not None
        assert len(crawler.history(10)) == crawls
        assert crawler.history(10)[0].outcome == "SUCCEEDED"
        seconds = crawler.last_seconds()
        assert seconds is not None
        assert seconds >= 0

    def test_a_stopped_crawler_can_start_again(self, crawler: Crawler) -> None:
        assert not crawler.stop()
        crawler.start()
        # It may have ended by itself meanwhile.
        crawler.stop()
        wait_for(lambda: not crawler.status().running)
        assert not crawler.stop()
        assert crawler.start()


class FoldersContract:
    """Requires the fixtures `folders` of the topics `one` and `two.x`, and `put`, which creates an object."""

    def test_folders_of_all_topics(self, folders: Folders, put: Callable[[str], None]) -> None:
        assert folders.listed() == set()
        for key in (
            "events/one/dt=2026-01-01/00000-00000000000000000000.json",
            "events/one/dt=2026-01-01/00000-00000000000000000001.json",
            "events/one/dt=2026-01-02/00000-00000000000000000002.json",
            "events/two.x/dt=2026-01-01/00000-00000000000000000000.json",
            # None of these is a day's folder of a topic.
            "events/onemore/dt=2026-01-01/00000-00000000000000000000.json",
            "events/one/_temporary/x.json",
            "dead-letters/one/dt=2026-01-03/00000-00000000000000000000.json",
        ):
            put(key)
        assert folders.listed() == {("one", "2026-01-01"), ("one", "2026-01-02"), ("two.x", "2026-01-01")}
