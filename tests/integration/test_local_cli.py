"""The command line starts everything, cleans up after itself, and runs Kafka's command-line tools."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.helpers.waiting import wait_for

COMMAND = [sys.executable, "-c", "import sys; from lakefeed_local.cli import main; sys.exit(main())"]


def run(*args: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *args],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=90,
        env=os.environ | variables,
        check=False,
    )


@contextmanager
def running(log: Path, *args: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*COMMAND, *args], stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | variables
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def addresses(process: subprocess.Popen[str], until: str) -> dict[str, str]:
    """The settings that a command prints, up to one of them."""
    assert process.stdout is not None
    found: dict[str, str] = {}
    while until not in found:
        line = process.stdout.readline()
        assert line, f"the command ended: {process.wait()}"
        name, _, value = line.strip().partition("=")
        found[name] = value
    return found


def serves(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


def processes_of(folder: Path) -> list[int]:
    """The processes whose command line or environment names a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in text and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


ANY_PORTS = ("--kafka-port", "0", "--zookeeper-port", "0", "--aws-port", "0")


def test_sigterm_ends_every_program_of_up(tmp_path: Path) -> None:
    options = ("--no-kafka", "--folder", str(tmp_path / "state"), "--aws-port", "0")
    with running(tmp_path / "log", "up", *options) as process:
        settings = addresses(process, "AWS_SECRET_ACCESS_KEY")
        assert serves(settings["AWS_ENDPOINT_URL"])

        process.send_signal(signal.SIGTERM)

        assert process.wait(60) == 0, (tmp_path / "log").read_text()
    assert processes_of(tmp_path / "state") == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_kill_9_of_up_leaves_no_process_behind(tmp_path: Path) -> None:
    with running(tmp_path / "log", "up", "--folder", str(tmp_path / "state"), *ANY_PORTS) as process:
        settings = addresses(process, "AWS_SECRET_ACCESS_KEY")
        assert serves(settings["AWS_ENDPOINT_URL"])
        kafka = AdminClient({"bootstrap.servers": settings["LAKEFEED_KAFKA_BOOTSTRAP_SERVERS"]})
        assert kafka.list_topics(timeout=60).brokers
        assert len(processes_of(tmp_path / "state")) >= 6, "three programs, each with its guard"

        process.kill()
        process.wait()

        wait_for(lambda: not processes_of(tmp_path / "state"), 60, "programs outlive the killed command")


def test_records_pass_through_kafkas_tools(kafka: str, topic: str) -> None:
    to = {"LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": kafka, "LAKEFEED_TOPIC": topic}
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(60)

    assert run("console-producer", stdin="one\ntwo\n", **to).returncode == 0
    read = run("console-consumer", "--from-beginning", "--max-messages", "2", "--group", f"g-{topic}", **to)
    described = run("topic", **to)
    groups = run("group", "--describe", "--group", f"g-{topic}", **to)

    assert sorted(read.stdout.split()) == ["one", "two"], read.stderr
    assert "PartitionCount: 2" in described.stdout
    assert "LAG" in groups.stdout
    assert topic in groups.stdout
