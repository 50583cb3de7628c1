"""The command line `lakefeed-producer`: what can be asked for. `commands` does it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakefeed_common.console import command_line, run

# A command imports what it works with when it is called: `--help` and a wrong option need none of it.
if TYPE_CHECKING:
    from lakefeed_producer.settings import ProducerSettings

app = command_line(
    "CSV rows become Kafka events. Every option has an environment variable; see the documentation."
)

Topic = Annotated[str | None, typer.Option(help="Topic of the events [LAKEFEED_TOPIC; demo_testing].")]
Servers = Annotated[
    str | None,
    typer.Option(
        "--kafka-bootstrap-servers",
        "-b",
        metavar="HOST:PORT",
        help="Address of the broker [LAKEFEED_KAFKA_BOOTSTRAP_SERVERS; localhost:9092].",
    ),
]
Rate = Annotated[float | None, typer.Option(help="Events a second [LAKEFEED_RATE; as many as possible].")]
Key = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Column that becomes the key [LAKEFEED_KEY].")
]
ColumnNames = Annotated[
    str | None, typer.Option(metavar="sql|as-is", help="How columns are named [LAKEFEED_COLUMN_NAMES; sql].")
]
Schema = Annotated[
    Path | None, typer.Option(metavar="FILE", help="JSON file: column and type [LAKEFEED_SCHEMA_FILE].")
]
Delimiter = Annotated[str | None, typer.Option(help="Between fields [LAKEFEED_DELIMITER; ,].")]
Encoding = Annotated[str | None, typer.Option(help="Of the text [LAKEFEED_ENCODING; utf-8].")]
Skip = Annotated[
    int | None, typer.Option(metavar="N", help="Lines before the header to leave out [LAKEFEED_SKIP; 0].")
]


@app.command(name="publish")
def publish_command(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE…", help="CSV files, each with a header; one in S3 as s3://BUCKET/KEY."),
    ],
    topic: Topic = None,
    kafka_bootstrap_servers: Servers = None,
    rate: Rate = None,
    key: Key = None,
    column_names: ColumnNames = None,
    schema: Schema = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    skip: Skip = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help="Data rows of each file, at most; all by default.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Publish all rows anew, whatever the topic holds of the files.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the events, send nothing.")] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Where rejected rows go; FILE.rejects.jsonl in this folder."),
    ] = None,
    summary: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write the counts as JSON at the end.")
    ] = None,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Serve metrics meanwhile [LAKEFEED_HTTP_PORT].")
    ] = False,
) -> None:
    """Publish CSV files and wait until each event is acknowledged.

    Started again after a stop, a kill or an error, it sends the rows that the topic lacks.

    Exit codes: 0 all delivered, 1 failed, 2 wrong usage or setting, 3 delivered but rows were
    rejected, 130 interrupted.
    """
    settings = _settings(
        {
            "topic": topic,
            "kafka_bootstrap_servers": kafka_bootstrap_servers,
            "rate": rate,
            "key": key,
            "column_names": column_names,
            "schema_file": schema,
            "delimiter": delimiter,
            "encoding": encoding,
            "skip": skip,
        }
    )
    from lakefeed_producer import commands

    code = commands.publish_files(
        files,
        settings,
        limit=limit,
        again=again,
        dry_run=dry_run,
        rejects=rejects,
        summary=summary,
        serve_metrics=metrics,
    )
    raise typer.Exit(code)


@app.command(name="watch")
def watch_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where CSV files appear.")],
    topic: Topic = None,
    kafka_bootstrap_servers: Servers = None,
    rate: Rate = None,
    key: Key = None,
    column_names: ColumnNames = None,
    schema: Schema = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    skip: Skip = None,
    state_folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="What has been done [LAKEFEED_STATE_FOLDER; lakefeed-state]."),
    ] = None,
) -> None:
    """Publish each CSV that appears in a folder once, until stopped.

    A file is taken when it has not changed for LAKEFEED_WATCH_SETTLE_SECONDS. What has been published
    is remembered in the state folder, and rejected rows are kept there. What is skipped is logged once.
    """
    settings = _settings(
        {
            "topic": topic,
            "kafka_bootstrap_servers": kafka_bootstrap_servers,
            "rate": rate,
            "key": key,
            "column_names": column_names,
            "schema_file": schema,
            "delimiter": delimiter,
            "encoding": encoding,
            "skip": skip,
            "state_folder": state_folder,
        }
    )
    from lakefeed_producer import commands

    commands.watch_folder(folder, settings)


@app.callback()
def _app() -> None:
    """Each command has its own help."""


def _settings(given: dict[str, Any]) -> ProducerSettings:
    from lakefeed_common.settings import load
    from lakefeed_producer.settings import ProducerSettings

    return load(ProducerSettings, given)


def main() -> int:
    """Run the command line and return its exit code."""
    return run(app)
