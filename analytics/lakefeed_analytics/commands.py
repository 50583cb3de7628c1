"""The commands of `lakefeed-analytics`, except `serve`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lakefeed_analytics.athena import QueryEngine, QueryStatus, Value, wait_for_query
from lakefeed_analytics.catalogue import Table, table_to_query
from lakefeed_analytics.crawl import CrawlerStatus, wait_for_crawl
from lakefeed_analytics.crawls import without_table
from lakefeed_analytics.errors import CrawlFailedError, StatementError
from lakefeed_analytics.layouts import both_layouts
from lakefeed_analytics.output import PAGE, Format, show
from lakefeed_analytics.parts import Parts, connect
from lakefeed_analytics.queries import NamedQueries
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_analytics.statements import reading, sample
from lakefeed_common.text import message


def ensure(settings: AnalyticsSettings, *, replace_targets: bool) -> None:
    """Create or update the AWS resources according to the settings, and print what changed."""
    with _lake(settings, replace_targets=replace_targets) as parts:
        changes = [change for step in parts.ensure.values() for change in step()]
    for change in changes:
        print(message(str(change)))
    if not changes:
        print("everything matches the settings")


def crawl(settings: AnalyticsSettings) -> None:
    """Crawl, wait for the end, and print the tables."""
    with _lake(settings) as parts:
        for step in parts.ensure.values():
            step()
        listed = parts.folders.listed()
        with _progress("crawling") as say:
            started = parts.crawler.start()
            say("started" if started else "joined the running crawl")

            def report(status: CrawlerStatus) -> None:
                say(f"{status.state.lower()} for {status.running_seconds:.0f} s")

            wait_for_crawl(parts.crawler, settings.crawl_timeout_seconds, progress=report)
        seconds = parts.crawler.last_seconds()
        print(f"crawled in {seconds:.1f} s" if seconds else "crawled")
        found = parts.catalogue.tables()
        for table in found:
            count = len(parts.catalogue.partitions(table.name))
            print(f"table {table.name}: {len(table.columns)} columns, {count} partitions")
        # A joined crawl may have started before the listed folders existed.
        if started and (missing := without_table({topic for topic, _ in listed}, found, settings)):
            raise CrawlFailedError("; ".join(missing))


def tables(
    settings: AnalyticsSettings, table: str | None, *, partitions: bool, rows: int, form: Format
) -> None:
    """Print the tables, or one table's columns, partitions or sample rows."""
    with _lake(settings) as parts:
        if table is None:
            _list_tables(parts, form)
            return
        found = parts.catalogue.table(table)
        if rows:
            _run(parts, settings, sample(found.name, rows), form, rows)
        elif partitions:
            keys = [column.name for column in found.columns if column.partition]
            each = parts.catalogue.partitions(table)
            show([*keys, "location"], ([*one.values, one.location] for one in each), form)
        else:
            lines: list[list[Value]] = [[each.name, each.type, each.partition] for each in found.columns]
            show(["column", "type", "partition"], lines, form)


def view(settings: AnalyticsSettings) -> None:
    """Print the statement that creates a view over both layouts, for each topic."""
    with _lake(settings) as parts:
        for topic in settings.topic_names:
            objects, batches = map(parts.catalogue.table, settings.raw_tables(topic))
            print(both_layouts(f"{objects.name}_all", objects, batches) + ";")


def queries(settings: AnalyticsSettings, form: Format) -> None:
    """Print the named queries."""
    found = NamedQueries(settings.queries_folder)
    show(["name", "title", "description"], ([q.name, q.title, q.description] for q in found), form)


def query(
    settings: AnalyticsSettings,
    sql: str | None,
    name: str | None,
    table: str | None,
    form: Format,
    limit: int,
) -> None:
    """Run a statement or a named query, and print its rows."""
    with _lake(settings) as parts:
        if name is not None:
            named = NamedQueries(settings.queries_folder).get(name)
            statement = named.over(table_to_query(parts.catalogue, settings, table).name)
        else:
            statement = reading(_standard_input() if sql == "-" else _argument(sql or ""))
        _run(parts, settings, statement, form, limit)


def _argument(text: str) -> str:
    """An argument decoded as UTF-8, whatever the locale (such as `LC_ALL=C`)."""
    try:
        return os.fsencode(text).decode()
    except UnicodeError:
        return text


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise StatementError(f"standard input is not UTF-8, at byte {error.start}") from None


@contextmanager
def _lake(settings: AnalyticsSettings, *, replace_targets: bool = False) -> Iterator[Parts]:
    """The connected AWS clients for a command."""
    # The commands print this themselves.
    logging.getLogger("lakefeed_analytics").setLevel(logging.WARNING)
    with connect(settings, replace_targets=replace_targets) as parts:
        yield parts


def _list_tables(parts: Parts, form: Format) -> None:
    def line(table: Table) -> list[Value]:
        columns = ", ".join(f"{column.name} {column.type}" for column in table.columns)
        return [table.name, len(parts.catalogue.partitions(table.name)), columns, table.location]

    show(["table", "partitions", "columns", "location"], map(line, parts.catalogue.tables()), form)


def _run(parts: Parts, settings: AnalyticsSettings, sql: str, form: Format, limit: int) -> None:
    with _progress("querying") as say:
        started = parts.engine.start(sql)

        def report(status: QueryStatus) -> None:
            say(status.state.lower())

        try:
            status = wait_for_query(parts.engine, started, settings.query_timeout_seconds, progress=report)
        except KeyboardInterrupt:
            parts.engine.cancel(started)
            raise
    result = _Result(parts.engine, started, limit)
    show(result.columns, result.rows(), form)
    cost = status.cost_usd(settings.price_per_terabyte_usd)
    print(
        f"{result.count} rows, {status.seconds:.1f} s, {status.scanned_bytes:,} B scanned, "
        f"about {cost:.5f} USD",
        file=sys.stderr,
    )
    if result.more:
        print(f"only the first {limit} rows; --limit 0 prints all", file=sys.stderr)


class _Result:
    """The rows of a query, fetched page by page while they are printed."""

    def __init__(self, engine: QueryEngine, query: str, limit: int) -> None:
        self._engine, self._query, self._limit = engine, query, limit
        self._first = engine.page(query, None, PAGE)
        self.columns = [column.name for column in self._first.columns]
        self.count = 0
        self.more = False

    def rows(self) -> Iterator[list[Value]]:
        page = self._first
        while True:
            for row in page.rows:
                if self._limit and self.count == self._limit:
                    self.more = True
                    return
                self.count += 1
                yield row
            if page.next is None:
                return
            page = self._engine.page(self._query, page.next, PAGE)


@contextmanager
def _progress(doing: str) -> Iterator[Callable[[str], None]]:
    """Report progress on standard error: a spinner on a terminal, otherwise one line per change."""
    from rich.console import Console

    err = Console(stderr=True, markup=False, emoji=False, highlight=False)
    if err.is_terminal:
        with err.status(doing) as status:
            yield lambda news: status.update(f"{doing}: {news}")
        return
    printed: list[str] = []

    def say(news: str) -> None:
        # A change of only the seconds is not printed.
        word = news.split(" for ")[0]
        if printed[-1:] != [word]:
            printed.append(word)
            print(f"{doing}: {word}", file=sys.stderr)

    yield say
