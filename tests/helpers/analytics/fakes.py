"""In-memory stand-ins for Glue, S3 and Athena, which pass the same contracts as the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count

from lakefeed_analytics.athena import Page, QueryStatus, ResultColumn, Value, inner_token, page_token
from lakefeed_analytics.catalogue import Column, Partition, Table
from lakefeed_analytics.crawl import Crawl, CrawlerStatus
from lakefeed_analytics.errors import ConflictError, QueryFailedError
from lakefeed_analytics.folders import Folder
from lakefeed_common.errors import LakefeedError, MissingError

COLUMNS = (
    Column("ticker", "string"),
    Column("date", "string"),
    Column("close", "double"),
    Column("volume", "bigint"),
    Column("dt", "string", True),
)


class MemoryCatalogue:
    def __init__(self) -> None:
        self.contents: dict[str, list[str]] = {}
        self.columns = COLUMNS
        self.places: dict[str, str] = {}
        self.error: LakefeedError | None = None

    def add(self, table: str, *days: str) -> None:
        known = self.contents.setdefault(table, [])
        known += [day for day in days if day not in known]

    def tables(self) -> list[Table]:
        self._fail()
        return [self.table(name) for name in sorted(self.contents)]

    def table(self, name: str) -> Table:
        self._fail()
        if name not in self.contents:
            raise MissingError(f"there is no table {name!r}")
        place = self.places.get(name, f"s3://lakefeed/events/{name}/")
        return Table(name, place, self.columns, "json")

    def partitions(self, table: str) -> list[Partition]:
        location = self.table(table).location
        return [Partition((day,), f"{location}dt={day}/") for day in sorted(self.contents[table])]

    def _fail(self) -> None:
        if self.error:
            raise self.error


class MemoryCrawler:
    """A crawl ends when the test says so."""

    def __init__(self) -> None:
        self.running = False
        self.running_seconds = 1.5
        self.starts = 0
        self.crawls: list[Crawl] = []
        self.error: LakefeedError | None = None

    def status(self) -> CrawlerStatus:
        if self.error:
            raise self.error
        last = self.crawls[0] if self.crawls else None
        if not self.running:
            return CrawlerStatus("READY", 0.0, last)
        return CrawlerStatus("RUNNING", self.running_seconds, last)

    def start(self) -> bool:
        if self.error:
            raise self.error
        if self.running:
            return False
        self.running = True
        self.starts += 1
        return True

    def stop(self) -> bool:
        running = self.running
        if running:
            self.end("CANCELLED")
        return running

    def end(self, outcome: str = "SUCCEEDED", error: str | None = None) -> None:
        self.running = False
        began = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=len(self.crawls))
        self.crawls.insert(0, Crawl(outcome, began, 7.0, error))

    def history(self, limit: int) -> list[Crawl]:
        return self.crawls[:limit]

    def last_seconds(self) -> float | None:
        return self.crawls[0].seconds if self.crawls else None


class MemoryFolders:
    def __init__(self) -> None:
        self.folders: set[Folder] = set()

    def listed(self) -> set[Folder]:
        return set(self.folders)


@dataclass
class Answer:
    """What the engine says to a statement; `hold` keeps it running."""

    columns: Sequence[tuple[str, str]] = ()
    rows: Sequence[list[Value]] = ()
    failure: str | None = None
    hold: bool = False
    scanned_bytes: int = 0


@dataclass
class MemoryEngine:
    """Knows the answers that it was given; any other statement fails as one with an unknown table does."""

    answers: dict[str, Answer] = field(default_factory=dict)
    queries: dict[str, QueryStatus] = field(default_factory=dict)
    error: LakefeedError | None = None
    _ids: count[int] = field(default_factory=lambda: count(1))

    def start(self, sql: str) -> str:
        if self.error:
            raise self.error
        answer = self.answers.get(sql, Answer(failure="TABLE_NOT_FOUND"))
        state = "RUNNING" if answer.hold else "FAILED" if answer.failure else "SUCCEEDED"
        number = next(self._ids)
        query = f"00000000-0000-0000-0000-{number:012d}"
        self.queries[query] = QueryStatus(
            query,
            sql,
            state,
            answer.failure,
            datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
            scanned_bytes=answer.scanned_bytes,
            seconds=0.5,
        )
        return query

    def status(self, query: str) -> QueryStatus:
        if self.error:
            raise self.error
        if query not in self.queries:
            raise MissingError(f"there is no query {query!r}")
        return self.queries[query]

    def statuses(self, queries: list[str]) -> list[QueryStatus]:
        if self.error:
            raise self.error
        return [self.queries[query] for query in queries if query in self.queries]

    def finish(self, query: str, state: str = "SUCCEEDED") -> None:
        self.queries[query] = replace(self.queries[query], state=state)

    def page(self, query: str, token: str | None, limit: int) -> Page:
        status = self.status(query)
        start = int(inner_token(query, token)) if token else 0
        if status.state in ("FAILED", "CANCELLED"):
            raise QueryFailedError(f"the query {query} was {status.state.lower()}: {status.reason}")
        if not status.done:
            raise ConflictError(f"the query {query} is {status.state.lower()}")
        answer = self.answers[status.sql]
        rows = [list(row) for row in answer.rows[start : start + limit]]
        following = start + limit
        return Page(
            tuple(ResultColumn(*column) for column in answer.columns),
            rows,
            page_token(query, str(following)) if following < len(answer.rows) else None,
        )

    def cancel(self, query: str) -> None:
        if not self.status(query).done:
            self.queries[query] = replace(self.queries[query], state="CANCELLED", reason="by the user")

    def recent(self, limit: int) -> list[QueryStatus]:
        if self.error:
            raise self.error
        return list(self.queries.values())[::-1][:limit]


class Clock:
    """A clock that only advances in `sleep`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
