"""The command line `lakefeed-producer`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakefeed_common.console import command_line, run
from lakefeed_producer.options import FILE_SETTINGS, Values, with_settings

# A command imports what it needs when it is called: `--help` and usage errors need none of it.
if TYPE_CHECKING:
    from lakefeed_producer.settings import ProducerSettings

app = command_line(
    "Publishes CSV rows as Kafka events, and restores events from a bucket. Every option of a setting has an "
    "environment variable; see the documentation."
)


@app.command(name="publish")
@with_settings(*FILE_SETTINGS)
def publish_command(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE…", help="CSV files, each with a header; in S3 as s3://BUCKET/KEY."),
    ],
    settings: Values,
    limit: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Data rows of each file, at most; all by default.")
    ] = None,
    republish: Annotated[
        bool, typer.Option("--republish", help="Publish all rows, even those that the topic already has.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", hidden=True)] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the events instead of sending.")] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="File for rejected rows; FILE.rejects.jsonl by default."),
    ] = None,
    summary: Annotated[
        Path | None, typer.Option(metavar="PATH", help="File for the counts as JSON, written at the end.")
    ] = None,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Serve metrics during the run [LAKEFEED_HTTP_PORT].")
    ] = False,
) -> None:
    """Publish CSV files and wait until each event is acknowledged.

    After a stop, a kill or an error, the same command sends the rows that are missing in the topic.

    Exit codes: 0 all delivered, 1 failed, 2 wrong usage or setting, 3 delivered but rows were
    rejected, 130 interrupted.
    """
    loaded = _load(settings)
    if again:
        typer.echo("warning: --again is deprecated. Use --republish", err=True)
    from lakefeed_producer.publish.command import Request, publish_files

    request = Request(
        files,
        limit=limit,
        republish=republish or again,
        dry_run=dry_run,
        rejects=rejects,
        summary=summary,
        metrics=metrics,
    )
    raise typer.Exit(publish_files(request, loaded))


@app.command(name="watch")
@with_settings(*FILE_SETTINGS, "state_folder")
def watch_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder in which CSV files appear.")],
    settings: Values,
) -> None:
    """Publish each CSV file that appears in a folder once, until stopped.

    A file is published when it has not changed for LAKEFEED_WATCH_SETTLE_SECONDS. The state folder records
    what has been published, and keeps rejected rows. Files that are skipped are logged once.
    """
    loaded = _load(settings)
    from lakefeed_producer.watch.command import watch_folder

    watch_folder(folder, loaded)


@app.command(name="restore")
@with_settings("kafka_bootstrap_servers", "rate")
def restore_command(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="s3://BUCKET/PREFIX/TOPIC…",
            help="The objects of a topic: batches, or one for each event; both if its layout was changed.",
        ),
    ],
    to: Annotated[str, typer.Option("--to", metavar="TOPIC", help="The topic to restore into.")],
    settings: Values,
    since: Annotated[
        str | None, typer.Option(metavar="DAY", help="First day to restore (UTC); all by default.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="DAY", help="Last day to restore (UTC); all by default.")
    ] = None,
    partitions: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Partitions that the origin had; as many as there are objects of by default.",
        ),
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="holes|damaged|values-only|retention",
            help="What must not end the restore; repeat for several.",
        ),
    ] = None,
    offset_map: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="File of old and new offsets; TOPIC.offsets.jsonl by default."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check objects and topic, and send nothing.")
    ] = False,
) -> None:
    """Restore the records of a topic from a bucket into a topic, and wait until each is acknowledged.

    Value, key, headers and timestamp are as they were, in the same partition and order, with one more header,
    lakefeed-origin. After a stop, a kill or an error, the same command restores the records that are missing.

    Exit codes: 0 all restored, 1 failed, 2 wrong usage or setting, 3 restored but not all as it was,
    130 interrupted.
    """
    loaded = _load({**settings, "topic": to}, {"topic": "--to"})
    from lakefeed_producer.restore import command

    request = command.Request(
        sources,
        days=command.parse_days(since, until),
        partitions=partitions,
        accept=command.parse_risks(accept or []),
        offset_map=offset_map,
        dry_run=dry_run,
    )
    raise typer.Exit(command.restore_topic(request, loaded))


@app.callback()
def _app() -> None:
    """Each command has its own help."""


def _load(values: Values, spellings: Mapping[str, str] | None = None) -> ProducerSettings:
    from lakefeed_common.settings import load
    from lakefeed_producer.settings import ProducerSettings

    return load(ProducerSettings, values, spellings)


def main() -> int:
    """Run the command line and return its exit code."""
    return run(app)
