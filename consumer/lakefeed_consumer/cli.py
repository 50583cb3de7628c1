"""The command line `lakefeed-consumer`."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from lakefeed_common import console
from lakefeed_consumer.dead_letters import cli as dead_letters_cli

app = console.command_line(
    "Store each event of a Kafka topic in S3, as a JSON object of its own or in a batch. "
    "Settings are environment variables: LAKEFEED_…, and those of AWS.",
)
app.add_typer(dead_letters_cli.app, name="dead-letters")


@app.command()
def run(
    topic: Annotated[str | None, typer.Option(help="Topic of the events [LAKEFEED_TOPIC].")] = None,
    bucket: Annotated[str | None, typer.Option(help="Bucket of the objects [LAKEFEED_BUCKET].")] = None,
) -> None:
    """Consume until SIGTERM or Ctrl-C; then store and commit what is in flight.

    Exit codes: 0 stopped on request, 1 failed, 2 wrong usage or setting.
    """
    # A command imports its modules when it is called: `--help` and a usage error need none of them.
    from lakefeed_common.settings import load
    from lakefeed_consumer.settings import ConsumerSettings

    settings = load(ConsumerSettings, {"topic": topic, "bucket": bucket})

    import uvloop

    from lakefeed_common import logs
    from lakefeed_consumer import service

    logs.configure(settings)
    _quieten()
    uvloop.run(service.run(settings))


def _quieten() -> None:
    """Let libraries log only what is wrong."""
    for verbose in ("faust", "mode", "aiokafka", "lakefeed_consumer.faust_driver"):
        logging.getLogger(verbose).setLevel(logging.WARNING)
    # A broker that has just started reports this before its first group; aiokafka retries.
    logging.getLogger("aiokafka.consumer.group_coordinator").addFilter(
        lambda record: "GroupCoordinatorNotAvailableError" not in record.getMessage()
    )


def main() -> int:
    """Entry point; returns the exit code."""
    return console.run(app)
