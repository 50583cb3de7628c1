"""The command line `lakefeed-consumer dead-letters`; `dead_letters_commands` does the work."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from lakefeed_common import console

# A command imports what it works with when it is called: `--help` and a wrong option need none of it.
if TYPE_CHECKING:
    from lakefeed_consumer.settings import ConsumerSettings

app = console.command_line("Look at dead letters, and send them back to Kafka.")

_Bucket = Annotated[str | None, typer.Option(help="Bucket of the dead letters [LAKEFEED_BUCKET].")]
_Topic = Annotated[str | None, typer.Option(help="Only those of this topic.")]
_Day = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d"], help="Only those of this day, UTC, by their timestamp."),
]
_Since = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only those of this day and later.")
]
_Reason = Annotated[str, typer.Option(help="Only those whose reason has this text in it.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


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
    """List dead letters: topic, day, partition, offset, reason, and whether they were replayed."""
    settings = _settings(bucket)
    from lakefeed_consumer import dead_letters_commands as commands

    commands.list_letters(settings, commands.selection(topic, day, since), reason, as_json=as_json)


@app.command()
def show(
    letter: Annotated[str, typer.Argument(help="Its key, or topic/partition/offset.")],
    *,
    bucket: _Bucket = None,
) -> None:
    """Show a dead letter as JSON; key, header values and value as text, or in base64 if they are no UTF-8."""
    settings = _settings(bucket)
    from lakefeed_consumer import dead_letters_commands as commands

    raise typer.Exit(commands.show_letter(settings, letter))


@app.command("replay")
def replay_(
    letters: Annotated[list[str] | None, typer.Argument(help="Keys, or topic/partition/offset.")] = None,
    topic: _Topic = None,
    day: _Day = None,
    since: _Since = None,
    reason: _Reason = "",
    *,
    to: Annotated[
        str | None, typer.Option(help="Send them to this topic; by default each to its own.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Those that were replayed before, too.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent, send nothing.")
    ] = False,
    bucket: _Bucket = None,
) -> None:
    """Send dead letters back to Kafka, byte for byte with key and headers, and mark them as replayed.

    Exit codes: 0 all sent, 1 failed, 2 wrong usage or setting, 3 some were not sent, and each says why.
    """
    if not (letters or topic or day or since or reason):
        raise typer.BadParameter("say which: letters, --topic, --day, --since or --reason")
    if letters and (topic or day or since or reason):
        raise typer.BadParameter("give either letters or --topic, --day, --since and --reason")
    settings = _settings(bucket)
    from lakefeed_consumer import dead_letters_commands as commands

    selection = commands.selection(topic, day, since)
    code = commands.replay_letters(settings, letters, selection, reason, to=to, again=again, dry_run=dry_run)
    raise typer.Exit(code)


def _settings(bucket: str | None) -> ConsumerSettings:
    from lakefeed_common.settings import load
    from lakefeed_consumer.settings import ConsumerSettings

    return load(ConsumerSettings, {"bucket": bucket})
