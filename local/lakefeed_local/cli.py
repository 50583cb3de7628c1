"""`lakefeed-local`: Kafka, ZooKeeper and AWS on one's own computer, without Docker, Java or Maven."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakefeed_common import console

# A command imports what it works with when it is called: `--help` and a wrong option need none of it.
if TYPE_CHECKING:
    from lakefeed_local.settings import LocalSettings

app = console.command_line("Kafka, ZooKeeper and AWS on one's own computer, without Docker, Java or Maven.")

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

Folder = Annotated[
    Path | None,
    typer.Option("--folder", help="State and logs; LAKEFEED_LOCAL_FOLDER, build/local by default."),
]


def _port(option: str, what: str) -> Any:
    return typer.Option(
        option, help=f"Port of {what}; 0 takes a free one.", show_default=False, min=0, max=65535
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
    kafka: Annotated[bool, typer.Option(help="Start Kafka and ZooKeeper too.")] = True,
) -> None:
    """Run Kafka, ZooKeeper and the local AWS.

    Prints the settings with which the services find them, one a line, and stays until Ctrl-C.
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
    """Run Kafka and ZooKeeper alone."""
    settings = _settings(
        local_folder=folder, local_kafka_port=kafka_port, local_zookeeper_port=zookeeper_port
    )
    from lakefeed_local import commands

    commands.run_kafka(settings)


@app.command("aws")
def run_aws(folder: Folder = None, aws_port: AwsPort = None) -> None:
    """Run the local AWS alone."""
    settings = _settings(local_folder=folder, local_aws_port=aws_port)
    from lakefeed_local import commands

    commands.run_aws(settings)


@app.command()
def fetch(
    broker: Annotated[bool, typer.Option("--kafka/--no-kafka", help="Fetch what Kafka needs.")] = True,
    aws: Annotated[bool, typer.Option("--aws/--no-aws", help="Fetch what the local AWS needs.")] = True,
) -> None:
    """Download and check everything for later runs."""
    settings = _settings()
    from lakefeed_local import commands

    commands.fetch(settings, broker=broker, aws=aws)


@app.command()
def agent(folder: Annotated[Path, typer.Argument(help="Where the jar is put.")]) -> None:
    """Copy the broker's metrics agent for a broker that runs elsewhere."""
    settings = _settings()
    from lakefeed_local import commands

    commands.copy_agent(settings, folder)


@app.command()
def lock(
    upgrade: Annotated[bool, typer.Option("--upgrade", help="Take newer versions where they fit.")] = False,
) -> None:
    """Resolve jars and packages anew into their locks.

    From jgo.toml into jgo.lock.toml, from kraft.toml into kraft.lock.toml, and from
    ministack.requirements.in into its lock.
    """
    from lakefeed_local import commands

    commands.make_locks(upgrade=upgrade)


@app.command()
def demo(
    data: Annotated[Path, typer.Option(help="The CSV.")] = Path("data/prices.csv"),
    topic: Annotated[str, typer.Option(help="Topic, and so the table.")] = "demo_testing",
    named_query: Annotated[str | None, typer.Option(help="Named query shown; else the first rows.")] = None,
    report: Annotated[Path, typer.Option(help="Where the counts are written.")] = Path("build/demo.json"),
    keep: Annotated[bool, typer.Option("--keep", help="Leave all running until Ctrl-C.")] = False,
) -> None:
    """Run the whole pipeline once: CSV, Kafka, S3 objects, Glue table, Athena answer.

    Starts all that it needs on free ports, counts at each step, and fails when the counts do not agree.
    """
    settings = _settings(log_level="WARNING")
    from lakefeed_local import commands

    commands.demo(settings, data, topic, named_query, report, keep=keep)


# ---- Kafka's own tools ----------------------------------------------------------------------


def _tool(name: str, given: list[str]) -> None:
    """Become one of Kafka's tools: it has the terminal, the signals and the exit code to itself."""
    settings = _settings()
    from lakefeed_local import commands

    commands.become_tool(settings, name, given)


@app.command(context_settings=_PASS_ON)
def topic(context: typer.Context) -> None:
    """Kafka's topic tool; describes the topic.

    Takes the tool's own options, such as --list, --create --partitions 3, --delete; `-- --help` shows them.
    """
    _tool("topic", context.args)


@app.command("console-producer", context_settings=_PASS_ON)
def console_producer(context: typer.Context) -> None:
    """Kafka's console producer; each line becomes a record.

    Takes the tool's own options; `-- --help` shows them.
    """
    _tool("console-producer", context.args)


@app.command("console-consumer", context_settings=_PASS_ON)
def console_consumer(context: typer.Context) -> None:
    """Kafka's console consumer; prints the topic's records.

    Takes the tool's own options, such as --from-beginning, --max-messages 5; `-- --help` shows them.
    """
    _tool("console-consumer", context.args)


@app.command(context_settings=_PASS_ON)
def group(context: typer.Context) -> None:
    """Kafka's group tool; shows all groups with their lag.

    Takes the tool's own options, such as --describe --group NAME, --list; `-- --help` shows them.
    """
    _tool("group", context.args)


def main() -> int:
    """Run the command line; returns its exit code."""
    return console.run(app)
