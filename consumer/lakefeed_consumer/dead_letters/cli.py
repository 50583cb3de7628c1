"""The command line `lakefeed-consumer dead-letters`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from lakefeed_common import console

# A command imports its modules when it is called: `--help` and a usage error need none of them.
if TYPE_CHECKING:
    from lakefeed_consumer.dead_letters.archive import Selection
    from lakefeed_consumer.settings import ConsumerSettings

app = console.command_line("Look at dead letters, and send them back to Kafka.")

_Bucket = Annotated[str | None, typer.Option(help="Bucket of the dead letters [LAKEFEED_BUCKET].")]
_Topic = Annotated[str | None, typer.Option(help="Only those of this topic.")]
_Day = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d"], help="Only those of this day (UTC), by their timestamp."),
]
_Since = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only those of this day and later.")
]
_Reason = Annotated[str, typer.Option(help="Only those whose reason contains this text.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


@app.command("list")
def list_(
    topic: _Topic = None,
    day: _Day = None,
    since: _Since = None,
    reason: _Reason = "",
    *,
    as_json: _Json = False,
    bucket: _Bucket = None,
) -> None:
    """List dead letters: topic, day, partition, offset, records, reason, and whether they were replayed.

    A batch that conflicts with another one is one line: its start, and how many events it has.
    """
    settings = _settings(bucket)
    from lakefeed_consumer.dead_letters import commands, output

    print_entries = output.print_json_lines if as_json else output.print_rows
    commands.list_dead_letters(settings, _selection(topic, day, since, reason), print_entries)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="LETTER", help="Its key, or topic/partition/offset.")],
    *,
    bucket: _Bucket = None,
) -> None:
    """Show a dead letter as JSON; key, value and header values as text, or in base64 if not UTF-8.

    Of a batch that conflicts, each event is shown.
    """
    settings = _settings(bucket)
    from lakefeed_consumer.dead_letters import commands

    raise typer.Exit(commands.show_dead_letter(settings, name))


@app.command("replay")
def replay_(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[LETTERS]...", help="Keys, or topic/partition/offset.")
    ] = None,
    topic: _Topic = None,
    day: _Day = None,
    since: _Since = None,
    reason: _Reason = "",
    *,
    to: Annotated[
        str | None, typer.Option(help="Send them to this topic; by default each to its own.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Include those that were already replayed.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent; send nothing.")
    ] = False,
    bucket: _Bucket = None,
) -> None:
    """Send dead letters back to Kafka, byte for byte with key and headers, and mark them as replayed.

    Exit codes: 0 all sent, 1 failed, 2 wrong usage or setting, 3 some were not sent, each with its reason.
    """
    if not (names or topic or day or since or reason):
        raise typer.BadParameter("give dead letters, --topic, --day, --since or --reason")
    if names and (topic or day or since or reason):
        raise typer.BadParameter("give either dead letters or --topic, --day, --since and --reason")
    settings = _settings(bucket)
    from lakefeed_consumer.dead_letters import commands

    selection = _selection(topic, day, since, reason)
    request = commands.ReplayRequest(tuple(names or ()), selection, to, again)
    run = commands.preview_replay if dry_run else commands.replay_dead_letters
    raise typer.Exit(run(settings, request))


def _selection(topic: str | None, day: datetime | None, since: datetime | None, reason: str) -> Selection:
    from lakefeed_consumer.dead_letters.archive import Selection

    return Selection(
        topic,
        day=day.date().isoformat() if day else None,
        since=since.date().isoformat() if since else None,
        reason=reason,
    )


def _settings(bucket: str | None) -> ConsumerSettings:
    from lakefeed_common.settings import load
    from lakefeed_consumer.settings import ConsumerSettings

    return load(ConsumerSettings, {"bucket": bucket})
