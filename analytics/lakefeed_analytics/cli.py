"""The command line `lakefeed-analytics`: what can be asked for; `commands` does it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from lakefeed_analytics.output import PAGE, Format
from lakefeed_common import console

# A command imports what it works with when it is called: `--help` and a wrong option need none of it.
if TYPE_CHECKING:
    from lakefeed_analytics.settings import AnalyticsSettings

app = console.command_line(
    "Glue catalogues the objects, Athena answers SQL over them. Settings are LAKEFEED_ variables.",
    "lakefeed-analytics",
)

_FormatOption = Annotated[Format, typer.Option("--format", "-f", help="How the result is printed.")]


def main() -> int:
    """Run the command line and return its exit code: 0 done, 1 failed, 2 wrong usage or settings."""
    return console.run(app)


@app.command("serve")
def serve_() -> None:
    """Serve the HTTP API, and crawl when there are new folders, until stopped."""
    settings = _settings()
    from lakefeed_analytics.server import serve

    serve(settings)


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
    settings = _settings()
    from lakefeed_analytics import commands

    commands.ensure(settings, replace_targets=replace_targets)


@app.command()
def crawl() -> None:
    """Crawl, and wait for the end; a crawl that runs already is joined."""
    settings = _settings()
    from lakefeed_analytics import commands

    commands.crawl(settings)


@app.command()
def tables(
    table: Annotated[str | None, typer.Argument(help="Only this table: its columns.")] = None,
    *,
    partitions: Annotated[bool, typer.Option("--partitions", help="The table's partitions.")] = False,
    rows: Annotated[int, typer.Option("--rows", help="A sample of so many rows.", min=0, max=PAGE)] = 0,
    form: _FormatOption = Format.TABLE,
) -> None:
    """List the tables; or one table's columns, partitions or first rows."""
    if table is None and (partitions or rows):
        raise typer.BadParameter("--partitions and --rows want the name of a table")
    if partitions and rows:
        raise typer.BadParameter("give either --partitions or --rows")
    settings = _settings()
    from lakefeed_analytics import commands

    commands.tables(settings, table, partitions=partitions, rows=rows, form=form)


@app.command()
def queries(*, form: _FormatOption = Format.TABLE) -> None:
    """List the named queries."""
    settings = _settings()
    from lakefeed_analytics import commands

    commands.queries(settings, form)


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
    settings = _settings()
    from lakefeed_analytics import commands

    commands.query(settings, sql, name, table, form, limit)


def _settings() -> AnalyticsSettings:
    from lakefeed_analytics.settings import AnalyticsSettings
    from lakefeed_common.settings import load

    settings = load(AnalyticsSettings)

    from lakefeed_common import logs

    logs.configure(settings)
    # It tells of each client where its credentials came from; what it fails at, we tell once.
    logging.getLogger("botocore").setLevel(logging.ERROR)
    return settings
