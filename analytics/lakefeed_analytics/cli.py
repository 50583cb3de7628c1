"""The command line `lakefeed-analytics`; `commands` has the implementation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from lakefeed_analytics.iceberg.accept import Accept
from lakefeed_analytics.output import PAGE, Format
from lakefeed_common import console

# A command imports its dependencies when it is called, so that `--help` and usage errors are fast.
if TYPE_CHECKING:
    from lakefeed_analytics.settings import AnalyticsSettings, CompactSettings

app = console.command_line(
    "Catalogue objects with Glue and query them with Athena. Settings are LAKEFEED_ variables.",
    "lakefeed-analytics",
)

S = TypeVar("S", bound="AnalyticsSettings")
_UNITS = {"s": 1, "m": 60, "h": 3600}
_FormatOption = Annotated[Format, typer.Option("--format", "-f", help="How the result is printed.")]


def main() -> int:
    """Run the command line and return its exit code: 0 done, 1 failed, 2 wrong usage or setting."""
    return console.run(app)


@app.command("serve")
def serve_() -> None:
    """Serve the HTTP API and start crawls for new day folders, until stopped."""
    settings = _settings()
    from lakefeed_analytics.server import serve

    serve(settings)


@app.command()
def ensure(
    *,
    replace_targets: Annotated[
        bool,
        typer.Option(
            "--replace-targets", help="Set the crawler's targets even if it only crawls other topics."
        ),
    ] = False,
) -> None:
    """Create or update the Glue database, crawler and Athena workgroup, and check the bucket."""
    settings = _settings()
    from lakefeed_analytics import commands

    commands.ensure(settings, replace_targets=replace_targets)


@app.command()
def crawl() -> None:
    """Start a crawl, or join a running one, and wait until it ends."""
    settings = _settings()
    from lakefeed_analytics import commands

    commands.crawl(settings)


@app.command()
def tables(
    table: Annotated[str | None, typer.Argument(help="Show only the columns of this table.")] = None,
    *,
    partitions: Annotated[bool, typer.Option("--partitions", help="Show the table's partitions.")] = False,
    rows: Annotated[int, typer.Option("--rows", help="Show this many sample rows.", min=0, max=PAGE)] = 0,
    form: _FormatOption = Format.TABLE,
) -> None:
    """List the tables, or one table's columns, partitions or sample rows."""
    if table is None and (partitions or rows):
        raise typer.BadParameter("--partitions and --rows require the name of a table")
    if partitions and rows:
        raise typer.BadParameter("give either --partitions or --rows")
    settings = _settings()
    from lakefeed_analytics import commands

    commands.tables(settings, table, partitions=partitions, rows=rows, form=form)


@app.command()
def view() -> None:
    """Print the statement that creates a view over the topic's tables of both layouts, for Athena."""
    settings = _settings()
    from lakefeed_analytics import commands

    commands.view(settings)


@app.command()
def queries(*, form: _FormatOption = Format.TABLE) -> None:
    """List the named queries."""
    settings = _settings()
    from lakefeed_analytics import commands

    commands.queries(settings, form)


@app.command()
def query(
    sql: Annotated[str | None, typer.Argument(help="SQL statement; `-` reads standard input.")] = None,
    *,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Run this named query.")] = None,
    table: Annotated[
        str | None,
        typer.Option(
            help="Table of the named query; by default the first topic's Iceberg table, or its other one."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="Maximum number of rows to print; 0 for all.", min=0)] = 1000,
    form: _FormatOption = Format.TABLE,
) -> None:
    """Run a read-only statement or a named query, and print its rows."""
    if (sql is None) == (name is None):
        raise typer.BadParameter("give either a statement or --name")
    if table is not None and name is None:
        raise typer.BadParameter("--table requires --name")
    settings = _settings()
    from lakefeed_analytics import commands

    commands.query(settings, sql, name, table, form, limit)


_Accept = Annotated[
    list[Accept] | None, typer.Option(help="What must not end it; repeat for several. See iceberg.md.")
]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what would be done.")]


@app.command()
def compact(
    *,
    every: Annotated[
        str | None,
        typer.Option(help="Run as a service that repeats this at an interval, such as 30s, 5m or 1h."),
    ] = None,
    accept: _Accept = None,
    dry_run: _DryRun = False,
) -> None:
    """Add the events that the consumer group has committed to the topics' Iceberg tables."""
    if every is not None and dry_run:
        raise typer.BadParameter("give either --every or --dry-run")
    if every is not None and accept:
        raise typer.BadParameter("--accept is for a single compaction, not for --every")
    seconds = None if every is None else _seconds(every)
    settings = _compact_settings()
    if seconds is not None:
        from lakefeed_analytics.iceberg import service

        service.serve(settings, seconds)
        return
    from lakefeed_analytics.iceberg import commands

    commands.compact(settings, dry_run=dry_run, accept=frozenset(accept or ()))


@app.command()
def rebuild(*, accept: _Accept = None, dry_run: _DryRun = False) -> None:
    """Make the topics' Iceberg tables again from the objects, with columns as wide as all values need."""
    settings = _compact_settings()
    from lakefeed_analytics.iceberg import commands

    commands.rebuild(settings, dry_run=dry_run, accept=frozenset(accept or ()))


@app.command()
def maintain(*, dry_run: _DryRun = False) -> None:
    """Remove orphan files of the topics' Iceberg tables, and run Athena's OPTIMIZE and VACUUM."""
    settings = _compact_settings()
    from lakefeed_analytics.iceberg import commands

    commands.maintain(settings, dry_run=dry_run)


def _seconds(text: str) -> int:
    """A duration such as `5m` in seconds."""
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or not int(number) or unit not in _UNITS:
        raise typer.BadParameter(f"--every {text}: it should be like 30s, 5m or 1h")
    return int(number) * _UNITS[unit]


def _settings() -> AnalyticsSettings:
    from lakefeed_analytics.settings import AnalyticsSettings

    return _loaded(AnalyticsSettings)


def _compact_settings() -> CompactSettings:
    from lakefeed_analytics.settings import CompactSettings

    return _loaded(CompactSettings)


def _loaded(kind: type[S]) -> S:
    from lakefeed_common.settings import load

    settings = load(kind)

    from lakefeed_common import logs

    logs.configure(settings)
    return settings
