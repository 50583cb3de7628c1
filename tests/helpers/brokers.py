"""Brokers of tests: their settings and their processes."""

from __future__ import annotations

from pathlib import Path

from lakefeed_local.broker import Broker

# Settings of a broker that no test kills. With the 6 s of `server.properties` a machine under full load loses
# it occasionally: ZooKeeper ends its session, and what it is asked meanwhile fails.
PATIENT = {"zookeeper.session.timeout.ms": "40000"}


def kafka_pid(broker: Broker) -> int:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if (
            command.split(b"\0")[0].endswith(b"java")
            and b"kafka.Kafka" in command
            and f"{broker.folder}/kafka".encode() in command
        ):
            return int(folder.name)
    raise AssertionError("there is no Kafka")
