"""The command line `lakefeed-analytics`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console

from lakefeed_analytics.athena import QueryEngine, QueryStatus, Value, wait_for_query
from lakefeed_analytics.catalogue import Table
from lakefeed_analytics.crawl import CrawlerStatus, wait_for_crawl
from lakefeed_analytics.crawls import without_table
from lakefeed_analytics.errors import CrawlFailedError, StatementError
from lakefeed_analytics.output import Format, show
from lakefeed_analytics.parts import Parts, connect
from lakefeed_analytics.queries import NamedQueries
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_analytics.statements import reading, sample
from lakefeed_common import console, logs
from lakefeed_common.settings import load
from lakefeed_common.text import message

app = typer.Typer(
    name="lakefeed-analytics",
    help="Glue catalogues the objects, Athena answers SQL over them. Settings are LAKEFEED_ variables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_PAGE = 1000
_FormatOption = Annotated[Format, typer.Option("--format", "-f", help="How the result is printed.")]


def main() -> int:
    """Run the command line and return its exit code: 0 done, 1 failed, 2 wrong usage or settings."""
    return console.run(app)


@app.command("serve")
def serve_() -> None:
    """Serve the HTTP API, and crawl when there are new folders, until stopped."""
    from lakefeed_analytics.server import serve

    serve(_settings())


@app.command()
def ensure(
    *,
    replace_targets: Annotated[
        bool,
        typer.Option(
            "--replace-targets", help="Set the crawler's targets even where it crawls other topics alone."
        ),
    ] = False,
) -> None:
    """Make sure that the bucket, the Glue database, the crawler and the Athena workgroup are as set."""
    with _lake(replace_targets=replace_targets) as (_, parts):
        changes = [change for step in parts.ensure.values() for change in step()]
    for change in changes:
        print(message(str(change)))
    if not changes:
        print("everything is as the settings say")


@app.command()
def crawl() -> None:
    """Crawl, and wait for the end; a crawl that runs already is joined."""
    with _lake() as (settings, parts):
        for step in parts.ensure.values():
            step()
        listed = parts.folders.listed()
        with _progress("crawling") as say:
            started = parts.crawler.start()
            say("started" if started else "joined the crawl that runs already")

            def tell(status: CrawlerStatus) -> None:
                say(f"{status.state.lower()} for {status.running_seconds:.0f} s")

            wait_for_crawl(parts.crawler, settings.crawl_timeout_seconds, progress=tell)
        seconds = parts.crawler.last_seconds()
        print(f"crawled in {seconds:.1f} s" if seconds else "crawled")
        found = parts.catalogue.tables()
        for table in found:
            count = len(parts.catalogue.partitions(table.name))
            print(f"table {table.name}: {len(table.columns)} columns, {count} partitions")
        # What was listed before a crawl that we joined may have come too late for it.
        if started and (missing := without_table({topic for topic, _ in listed}, found, settings)):
            raise CrawlFailedError("; ".join(missing))


@app.command()
def tables(
    table: Annotated[str | None, typer.Argument(help="Only this table: its columns.")] = None,
    *,
    partitions: Annotated[bool, typer.Option("--partitions", help="The table's partitions.")] = False,
    rows: Annotated[int, typer.Option("--rows", help="A sample of so many rows.", min=0, max=_PAGE)] = 0,
    form: _FormatOption = Format.TABLE,
) -> None:
    """List the tables; or one table's columns, partitions or first rows."""
    if table is None and (partitions or rows):
        raise typer.BadParameter("--partitions and --rows want the name of a table")
    if partitions and rows:
        raise typer.BadParameter("give either --partitions or --rows")
    with _lake() as (settings, parts):
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


@app.command()
def queries(*, form: _FormatOption = Format.TABLE) -> None:
    """List the named queries."""
    found = NamedQueries(_settings().queries_folder)
    show(["name", "title", "description"], ([q.name, q.title, q.description] for q in found), form)


@app.command()
def query(
    sql: Annotated[str | None, typer.Argument(help="The statement; `-` reads standard input.")] = None,
    *,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Run this named query.")] = None,
    table: Annotated[
        str | None, typer.Option(help="The table of a named query; the first topic's by default.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Print so many rows at most; 0 for all.", min=0)] = 1000,
    form: _FormatOption = Format.TABLE,
) -> None:
    """Run a reading statement or a named query, and print its rows."""
    if (sql is None) == (name is None):
        raise typer.BadParameter("give either a statement or --name")
    if table is not None and name is None:
        raise typer.BadParameter("--table goes with --name")
    with _lake() as (settings, parts):
        if name is not None:
            named = NamedQueries(settings.queries_folder).get(name)
            statement = named.over(parts.catalogue.table(table or settings.default_table).name)
        else:
            statement = reading(_standard_input() if sql == "-" else _argument(sql or ""))
        _run(parts, settings, statement, form, limit)


def _argument(text: str) -> str:
    """An argument as UTF-8, which Python reads as something else where the locale says so (`LC_ALL=C`)."""
    try:
        return os.fsencode(text).decode()
    except UnicodeError:
        return text


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise StatementError(f"standard input is not UTF-8, at byte {error.start}") from None


def _settings() -> AnalyticsSettings:
    settings = load(AnalyticsSettings)
    logs.configure(settings)
    # It tells of each client where its credentials came from; what it fails at, we tell once.
    logging.getLogger("botocore").setLevel(logging.ERROR)
    return settings


@contextmanager
def _lake(*, replace_targets: bool = False) -> Iterator[tuple[AnalyticsSettings, Parts]]:
    """What a command works with."""
    settings = _settings()
    # What the commands print says it already.
    logging.getLogger("lakefeed_analytics").setLevel(logging.WARNING)
    with connect(settings, replace_targets=replace_targets) as parts:
        yield settings, parts


def _list_tables(parts: Parts, form: Format) -> None:
    def line(table: Table) -> list[Value]:
        columns = ", ".join(f"{column.name} {column.type}" for column in table.columns)
        return [table.name, len(parts.catalogue.partitions(table.name)), columns, table.location]

    show(["table", "partitions", "columns", "location"], map(line, parts.catalogue.tables()), form)


def _run(parts: Parts, settings: AnalyticsSettings, sql: str, form: Format, limit: int) -> None:
    with _progress("querying") as say:
        started = parts.engine.start(sql)

        def tell(status: QueryStatus) -> None:
            say(status.state.lower())

        try:
            status = wait_for_query(parts.engine, started, settings.query_timeout_seconds, progress=tell)
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
        self._first = engine.page(query, None, _PAGE)
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
            page = self._engine.page(self._query, page.next, _PAGE)


@contextmanager
def _progress(doing: str) -> Iterator[Callable[[str], None]]:
    """Tell on standard error how it goes: a spinner on a terminal, else a line for each news."""
    err = Console(stderr=True, markup=False, emoji=False, highlight=False)
    if err.is_terminal:
        with err.status(doing) as status:
            yield lambda news: status.update(f"{doing}: {news}")
        return
    told: list[str] = []

    def say(news: str) -> None:
        # Seconds alone are no news.
        word = news.split(" for ")[0]
        if told[-1:] != [word]:
            told.append(word)
            print(f"{doing}: {word}", file=sys.stderr)

    yield say
