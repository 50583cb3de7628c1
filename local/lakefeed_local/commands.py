"""The commands of `lakefeed-local`."""

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
    from lakefeed_local.demo import DemoOptions

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
        # The local AWS accepts any, but AWS's clients need some.
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def _run_until_stopped(shown: dict[str, str], watched: dict[str, Callable[[], bool]]) -> None:
    """Print settings for the services, one per line, and return when a signal asks to stop.

    Until then a signal ends the process at once, and with it the programs that it has started.

    Raises:
        LakefeedError: one of the programs ended.
    """
    stop = console.stop_on_signals()
    for name, value in shown.items():
        print(f"{name}={value}", flush=True)
    print("Ready. Stop with Ctrl-C", file=sys.stderr, flush=True)
    while not stop.wait(_WATCH_SECONDS):
        for name, runs in watched.items():
            if not runs():
                raise LakefeedError(f"{name} ended unexpectedly. Its log is in the folder of this run")
    print("Stopping", file=sys.stderr, flush=True)


def up(settings: LocalSettings, *, kafka: bool) -> None:
    """Run the local AWS, and Kafka unless it is turned off, until asked to stop."""
    with ExitStack() as running:
        watched: dict[str, Callable[[], bool]] = {}
        shown: dict[str, str] = {}
        if kafka:
            broker = running.enter_context(_broker(settings))
            watched["Kafka or ZooKeeper"] = lambda: broker.running
            shown |= _kafka_settings(broker)
        aws = running.enter_context(_aws(settings))
        watched["the local AWS"] = lambda: aws.running
        shown |= _aws_settings(aws, settings)
        _run_until_stopped(shown, watched)


def run_kafka(settings: LocalSettings) -> None:
    """Run Kafka and ZooKeeper until asked to stop."""
    with _broker(settings) as broker:
        _run_until_stopped(_kafka_settings(broker), {"Kafka or ZooKeeper": lambda: broker.running})


def run_aws(settings: LocalSettings) -> None:
    """Run the local AWS until asked to stop."""
    with _aws(settings) as aws:
        _run_until_stopped(_aws_settings(aws, settings), {"the local AWS": lambda: aws.running})


def fetch(settings: LocalSettings, *, broker: bool, aws: bool) -> None:
    """Download and verify what later runs need."""
    if broker:
        from lakefeed_local import java

        found = jars.ensure(settings.cache)
        print(f"Kafka: {found.classpath.count(':') + 1} jars; {java.version()}")
    if aws:
        print(f"local AWS: {local_aws.environment(settings.cache)}")


def make_class_archives(settings: LocalSettings) -> None:
    """Make the archives with which Kafka and ZooKeeper start faster."""
    from lakefeed_local import class_archives

    for archive in class_archives.ensure(settings):
        print(f"class archive: {archive}")


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
    print(f"{local_aws.LOCK.name}: written")


def demo(settings: LocalSettings, options: DemoOptions, *, keep: bool) -> None:
    """Run the whole pipeline once, and print the report."""
    from lakefeed_local.demo import Demo

    load(KafkaSettings, {"topic": options.topic})
    if not options.data.is_file():
        raise InputError(f"DATA={options.data}: the file does not exist")
    report = options.report
    report.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix="demo-", dir=report.parent))
    run = Demo(options, folder, settings)
    try:
        with ExitStack() as running:
            try:
                run.run(running)
            finally:
                run.write_report()
            print(report.read_text(), end="", flush=True)
            if keep:
                _run_until_stopped(run.addresses, run.watched)
    except LakefeedError:
        print(f"Logs of this run: {folder}/logs and {folder}/*/logs", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        print("Interrupted. All programs that were started have ended", file=sys.stderr)
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
