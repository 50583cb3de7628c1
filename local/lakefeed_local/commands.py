"""What the commands of `lakefeed-local` do."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from lakefeed_common import console
from lakefeed_common.errors import InputError, LakefeedError
from lakefeed_common.settings import KafkaSettings, load
from lakefeed_local import aws as local_aws
from lakefeed_local import jars, tools
from lakefeed_local.aws import LocalAws
from lakefeed_local.settings import LocalSettings

if TYPE_CHECKING:
    from lakefeed_local.broker import Broker

_WATCH_SECONDS = 0.5

# Only the commands that run Kafka import its client and Java, which the image does not have.


def _broker(settings: LocalSettings) -> Broker:
    from lakefeed_local.broker import Broker

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


def up(settings: LocalSettings, *, kafka: bool) -> None:
    """Run the local AWS with its crawls, and Kafka if wanted, until asked to stop."""
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
        _stay(told, watched)


def run_kafka(settings: LocalSettings) -> None:
    """Run Kafka and ZooKeeper until asked to stop."""
    with _broker(settings) as broker:
        _stay(_kafka_settings(broker), {"Kafka or ZooKeeper": lambda: broker.running})


def run_aws(settings: LocalSettings) -> None:
    """Run the local AWS until asked to stop."""
    with _aws(settings) as aws:
        _stay(_aws_settings(aws, settings), {"the local AWS": lambda: aws.running})


def fetch(settings: LocalSettings, *, broker: bool, aws: bool) -> None:
    """Download and check what later runs need."""
    if broker:
        from lakefeed_local import java

        found = jars.ensure(settings.cache)
        print(f"Kafka: {found.classpath.count(':') + 1} jars, whole; on {java.version()}")
    if aws:
        print(f"local AWS: {local_aws.environment(settings.cache)}")


def copy_agent(settings: LocalSettings, folder: Path) -> None:
    """Copy the broker's metrics agent into a folder."""
    target = folder / "jmx_prometheus_javaagent.jar"
    shutil.copyfile(jars.ensure_agent(settings.cache), target)
    target.chmod(0o644)
    print(target)


def make_locks(*, upgrade: bool) -> None:
    """Resolve jars and packages into their locks."""
    for spec, lock in ((jars.SPEC, jars.LOCK), (jars.KRAFT_SPEC, jars.KRAFT_LOCK)):
        made = jars.make_lock(spec, lock)
        print(f"{lock.name}: {len(made)} jars")
    local_aws.make_lock(upgrade=upgrade)
    print(f"{local_aws.LOCK.name}: made")


def demo(
    settings: LocalSettings,
    data: Path,
    topic: str,
    named_query: str | None,
    report: Path,
    *,
    keep: bool,
) -> None:
    """Run the whole pipeline once, and print the report."""
    from lakefeed_local.demo import Demo

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


def become_tool(settings: LocalSettings, name: str, given: list[str]) -> None:
    """Become one of Kafka's tools: it has the terminal, the signals and the exit code to itself."""
    from lakefeed_local import java

    words, properties = tools.arguments(name, load(KafkaSettings), given)
    if properties:
        words += tools.config_arguments(name, properties)
    command = java.tool(jars.ensure(settings.cache), settings.broker_folder, tools.CLASSES[name], *words)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted
