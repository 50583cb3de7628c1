"""`lakefeed-local`: Kafka, ZooKeeper and AWS on this computer, without Docker, Java or Maven."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lakefeed_common import console

# Each command imports its modules when it is called, so that `--help` and a wrong option are fast.
if TYPE_CHECKING:
    from lakefeed_local.settings import LocalSettings

app = console.command_line("Kafka, ZooKeeper and AWS on this computer, without Docker, Java or Maven.")

Layout = Literal["objects", "batches"]
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder", help="Folder of state and logs (LAKEFEED_LOCAL_FOLDER; build/local by default)."
    ),
]


def _port(option: str, what: str) -> Any:
    return typer.Option(
        option, help=f"Port of {what}; 0 means a free one.", show_default=False, min=0, max=65535
    )


KafkaPort = Annotated[int | None, _port("--kafka-port", "Kafka (9092)")]
ZookeeperPort = Annotated[int | None, _port("--zookeeper-port", "ZooKeeper (2181)")]
AwsPort = Annotated[int | None, _port("--aws-port", "the local AWS (4566)")]


def _settings(**options: Any) -> LocalSettings:
    from lakefeed_common import logs
    from lakefeed_common.settings import load
    from lakefeed_local.settings import LocalSettings

    settings = load(LocalSettings, options)
    logs.configure(settings)
    return settings


@app.command()
def up(
    folder: Folder = None,
    kafka_port: KafkaPort = None,
    zookeeper_port: ZookeeperPort = None,
    aws_port: AwsPort = None,
    *,
    kafka: Annotated[bool, typer.Option(help="Start Kafka and ZooKeeper as well.")] = True,
) -> None:
    """Run Kafka, ZooKeeper and the local AWS.

    Prints the settings by which the services find them, one per line, and runs until Ctrl-C.
    """
    settings = _settings(
        local_folder=folder,
        local_kafka_port=kafka_port,
        local_zookeeper_port=zookeeper_port,
        local_aws_port=aws_port,
    )
    from lakefeed_local import commands

    commands.up(settings, kafka=kafka)


@app.command("kafka")
def run_kafka(
    folder: Folder = None, kafka_port: KafkaPort = None, zookeeper_port: ZookeeperPort = None
) -> None:
    """Run Kafka and ZooKeeper only."""
    settings = _settings(
        local_folder=folder, local_kafka_port=kafka_port, local_zookeeper_port=zookeeper_port
    )
    from lakefeed_local import commands

    commands.run_kafka(settings)


@app.command("aws")
def run_aws(folder: Folder = None, aws_port: AwsPort = None) -> None:
    """Run the local AWS only."""
    settings = _settings(local_folder=folder, local_aws_port=aws_port)
    from lakefeed_local import commands

    commands.run_aws(settings)


@app.command()
def fetch(
    *,
    broker: Annotated[bool, typer.Option("--kafka/--no-kafka", help="Download what Kafka needs.")] = True,
    aws: Annotated[bool, typer.Option("--aws/--no-aws", help="Download what the local AWS needs.")] = True,
    class_archives: Annotated[
        bool, typer.Option("--class-archives", help="Make archives with which Kafka starts faster.")
    ] = False,
) -> None:
    """Download and verify everything that later runs need."""
    settings = _settings()
    from lakefeed_local import commands

    commands.fetch(settings, broker=broker, aws=aws)
    if class_archives:
        commands.make_class_archives(settings)


@app.command()
def agent(folder: Annotated[Path, typer.Argument(help="Folder for the jar.")]) -> None:
    """Copy the metrics agent for a broker that runs elsewhere."""
    settings = _settings()
    from lakefeed_local import commands

    commands.copy_agent(settings, folder)


@app.command()
def lock(
    *,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Use newer versions where the requirements allow it.")
    ] = False,
) -> None:
    """Resolve jars and packages into their locks.

    From jgo.toml into jgo.lock.toml, from kraft.toml into kraft.lock.toml, and from
    ministack.requirements.in into its lock.
    """
    from lakefeed_local import commands

    commands.make_locks(upgrade=upgrade)


@app.command()
def demo(
    *,
    data: Annotated[Path, typer.Option(help="CSV file to publish.")] = Path("data/prices.csv"),
    topic: Annotated[str, typer.Option(help="Name of the topic and of the table.")] = "demo_testing",
    named_query: Annotated[
        str | None, typer.Option(help="Named query to run instead of showing the first rows.")
    ] = None,
    report: Annotated[Path, typer.Option(help="File for the counts.")] = Path("build/demo.json"),
    layout: Annotated[
        Layout, typer.Option(help="How events are stored: one object each, or in batches.")
    ] = "objects",
    keep: Annotated[bool, typer.Option("--keep", help="Keep everything running until Ctrl-C.")] = False,
) -> None:
    """Run the whole pipeline once: CSV, Kafka, S3 objects, Glue and Iceberg tables, Athena query.

    Starts everything on free ports, counts at each step, and fails if the counts differ.
    """
    settings = _settings(log_level="WARNING")
    from lakefeed_local import commands
    from lakefeed_local.demo import DemoOptions

    commands.demo(settings, DemoOptions(data, topic, named_query, report, layout), keep=keep)


# ---- Kafka's own tools ----------------------------------------------------------------------


def _tool(name: str, given: list[str]) -> None:
    """Replace this process by one of Kafka's tools, which gets the terminal, signals and exit code."""
    settings = _settings()
    from lakefeed_local import commands

    commands.become_tool(settings, name, given)


@app.command(context_settings=_PASS_ON)
def topic(context: typer.Context) -> None:
    """Kafka's topic tool; describes the topic by default.

    Accepts the tool's own options, such as --list, --create --partitions 3, --delete; `-- --help` lists them.
    """
    _tool("topic", context.args)


@app.command("console-producer", context_settings=_PASS_ON)
def console_producer(context: typer.Context) -> None:
    """Kafka's console producer; each line becomes a record.

    Accepts the tool's own options; `-- --help` lists them.
    """
    _tool("console-producer", context.args)


@app.command("console-consumer", context_settings=_PASS_ON)
def console_consumer(context: typer.Context) -> None:
    """Kafka's console consumer; prints the topic's records.

    Accepts the tool's own options, such as --from-beginning, --max-messages 5; `-- --help` lists them.
    """
    _tool("console-consumer", context.args)


@app.command(context_settings=_PASS_ON)
def group(context: typer.Context) -> None:
    """Kafka's consumer group tool; shows all groups with their lag by default.

    Accepts the tool's own options, such as --describe --group NAME, --list; `-- --help` lists them.
    """
    _tool("group", context.args)


def main() -> int:
    """Run the command line; returns its exit code."""
    return console.run(app)
