"""`lakefeed-local`: Kafka, ZooKeeper and AWS on one's own computer, without Docker, Java or Maven."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated, Any

import typer

from lakefeed_common import console, logs
from lakefeed_common.errors import InputError, LakefeedError
from lakefeed_common.health import Health
from lakefeed_common.settings import KafkaSettings, load
from lakefeed_common.web import StatusServer
from lakefeed_local import aws as local_aws
from lakefeed_local import jars, java, tools
from lakefeed_local.aws import LocalAws
from lakefeed_local.broker import Broker
from lakefeed_local.crawl_service import CrawlService, endpoint
from lakefeed_local.demo import Demo
from lakefeed_local.metrics import LocalMetrics
from lakefeed_local.settings import LocalSettings

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, rich_markup_mode=None)

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
_WATCH_SECONDS = 0.5

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
    settings = load(LocalSettings, options)
    logs.configure(settings)
    return settings


def _broker(settings: LocalSettings) -> Broker:
    return Broker(
        settings.local_folder / "broker",
        kafka_port=settings.local_kafka_port,
        zookeeper_port=settings.local_zookeeper_port,
        settings=settings,
    )


def _aws(settings: LocalSettings) -> LocalAws:
    return LocalAws(settings.local_folder / "aws", port=settings.local_aws_port, settings=settings)


def _kafka_settings(broker: Broker) -> dict[str, str]:
    return {"LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers}


def _aws_settings(aws: LocalAws, settings: LocalSettings) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": aws.endpoint_url,
        "AWS_REGION": settings.aws_region,
        # Any will do; AWS's own clients want some.
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def _stay(told: dict[str, str], watched: dict[str, Callable[[], bool]]) -> None:
    """Print the settings for the services, one a line, and return when asked to stop.

    Before this, a signal ends the process at once, and what it has started goes with it.

    Raises:
        LakefeedError: something that should run ended by itself.
    """
    stop = console.stop_on_signals()
    for name, value in told.items():
        print(f"{name}={value}", flush=True)
    print("ready; stop with Ctrl-C", file=sys.stderr, flush=True)
    while not stop.wait(_WATCH_SECONDS):
        for name, runs in watched.items():
            if not runs():
                raise LakefeedError(f"{name} ended by itself; its log is in the folder of the run")
    print("stopping", file=sys.stderr, flush=True)


@app.command()
def up(
    folder: Folder = None,
    kafka_port: KafkaPort = None,
    zookeeper_port: ZookeeperPort = None,
    aws_port: AwsPort = None,
    kafka: Annotated[bool, typer.Option(help="Start Kafka and ZooKeeper too.")] = True,
) -> None:
    """Run Kafka, ZooKeeper and the local AWS with its crawls.

    Prints the settings with which the services find them, one a line, and stays until Ctrl-C.
    """
    settings = _settings(
        local_folder=folder,
        local_kafka_port=kafka_port,
        local_zookeeper_port=zookeeper_port,
        local_aws_port=aws_port,
    )
    with ExitStack() as running:
        watched: dict[str, Callable[[], bool]] = {}
        told: dict[str, str] = {}
        if kafka:
            broker = running.enter_context(_broker(settings))
            watched["Kafka or ZooKeeper"] = lambda: broker.running
            told |= _kafka_settings(broker)
        aws = running.enter_context(_aws(settings))
        watched["the local AWS"] = lambda: aws.running
        told |= _aws_settings(aws, settings)
        running.enter_context(CrawlService(aws.endpoint_url, settings=settings))
        _stay(told, watched)


@app.command("kafka")
def run_kafka(
    folder: Folder = None, kafka_port: KafkaPort = None, zookeeper_port: ZookeeperPort = None
) -> None:
    """Run Kafka and ZooKeeper alone."""
    settings = _settings(
        local_folder=folder, local_kafka_port=kafka_port, local_zookeeper_port=zookeeper_port
    )
    with _broker(settings) as broker:
        _stay(_kafka_settings(broker), {"Kafka or ZooKeeper": lambda: broker.running})


@app.command("aws")
def run_aws(folder: Folder = None, aws_port: AwsPort = None) -> None:
    """Run the local AWS alone.

    Its crawlers need `lakefeed-local crawler` beside it.
    """
    settings = _settings(local_folder=folder, local_aws_port=aws_port)
    with _aws(settings) as aws:
        _stay(_aws_settings(aws, settings), {"the local AWS": lambda: aws.running})


@app.command()
def crawler(
    http_port: Annotated[int | None, _port("--http-port", "metrics and health (8004)")] = None,
) -> None:
    """Do the crawls of the local AWS.

    Finds it by AWS_ENDPOINT_URL, serves /metrics, /healthz and /readyz.
    """
    settings = _settings(http_port=http_port)
    address = endpoint(settings)
    stop = console.stop_on_signals()
    metrics = LocalMetrics()
    health = Health(metrics, ["aws"], stall_seconds=settings.stall_seconds)
    with (
        StatusServer(settings, metrics, health) as status,
        CrawlService(address, settings=settings, metrics=metrics, health=health),
    ):
        print(f"metrics and health on port {status.port}", file=sys.stderr, flush=True)
        stop.wait()


@app.command()
def fetch(
    broker: Annotated[bool, typer.Option("--kafka/--no-kafka", help="Fetch what Kafka needs.")] = True,
    aws: Annotated[bool, typer.Option("--aws/--no-aws", help="Fetch what the local AWS needs.")] = True,
) -> None:
    """Download and check everything for later runs."""
    settings = _settings()
    if broker:
        found = jars.ensure(settings.cache)
        print(f"Kafka: {found.classpath.count(':') + 1} jars, whole; on {java.version()}")
    if aws:
        print(f"local AWS: {local_aws.environment(settings.cache)}")


@app.command()
def agent(folder: Annotated[Path, typer.Argument(help="Where the jar is put.")]) -> None:
    """Copy the broker's metrics agent for a broker that runs elsewhere."""
    target = folder / "jmx_prometheus_javaagent.jar"
    shutil.copyfile(jars.ensure(_settings().cache).jmx_agent, target)
    target.chmod(0o644)
    print(target)


@app.command()
def lock(
    upgrade: Annotated[bool, typer.Option("--upgrade", help="Take newer versions where they fit.")] = False,
) -> None:
    """Resolve jars and packages anew into their locks.

    From jgo.toml into jgo.lock.toml, from ministack.requirements.in into its lock.
    """
    made = jars.make_lock()
    print(f"{jars.LOCK.name}: {len(made)} jars")
    local_aws.make_lock(upgrade=upgrade)
    print(f"{local_aws.LOCK.name}: made")


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
    load(KafkaSettings, {"topic": topic})
    if not data.is_file():
        raise InputError(f"DATA={data}: there is no such file")
    report.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix="demo-", dir=report.parent))
    run = Demo(data, topic, folder, report.with_name("demo-rejects.jsonl"), named_query, settings)
    try:
        with ExitStack() as running:
            try:
                run.run(running)
            finally:
                run.report(report)
            print(report.read_text(), end="", flush=True)
            if keep:
                _stay(run.addresses, run.watched)
    except LakefeedError:
        print(f"logs of this run: {folder}/logs and {folder}/*/logs", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        print("interrupted; what was started has ended", file=sys.stderr)
        raise
    shutil.rmtree(folder)


# ---- Kafka's own tools ----------------------------------------------------------------------


def _tool(name: str, given: list[str]) -> None:
    """Become one of Kafka's tools: it has the terminal, the signals and the exit code to itself."""
    settings = _settings()
    words, properties = tools.arguments(name, load(KafkaSettings), given)
    if properties:
        words += tools.config_arguments(name, properties)
    command = java.tool(jars.ensure(settings.cache), settings.broker_folder, tools.CLASSES[name], *words)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


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
