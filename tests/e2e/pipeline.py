"""The pipeline's records, objects and answers, as its tests see them from outside of the containers."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from tests.e2e.conftest import PORTS, ROOT, compose
from tests.helpers.waiting import wait_for

TOPIC = "demo_testing"
BUCKET = "lakefeed"

Position = tuple[int, int]


def stored(s3: Any, prefix: str = f"events/{TOPIC}/") -> dict[Position, str]:
    """Keys in the bucket by partition and offset."""
    keys = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        for entry in page.get("Contents", []):
            partition, offset = entry["Key"].rsplit("/", 1)[1].removesuffix(".json").split("-")
            keys[int(partition), int(offset)] = entry["Key"]
    return keys


def read_topic(kafka: str) -> list[Any]:
    """Every record of the topic. `Any`: by the stub a `Message` may lack its place and its value."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "e2e-reader", "enable.auto.commit": False})
    found: list[Any] = []
    try:
        partitions = list(consumer.list_topics(TOPIC, timeout=20).topics[TOPIC].partitions)
        ends = [consumer.get_watermark_offsets(TopicPartition(TOPIC, number))[1] for number in partitions]
        consumer.assign([TopicPartition(TOPIC, number, 0) for number in partitions])
        while len(found) < sum(ends):
            found += consumer.consume(1000, timeout=10)
            assert all(message.error() is None for message in found)
    finally:
        consumer.close()
    return found


def records(kafka: str) -> dict[Position, bytes]:
    """Every record's value by partition and offset."""
    return {(message.partition(), message.offset()): message.value() for message in read_topic(kafka)}


@contextmanager
def publishing(path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Publish from this computer, as a user of a remote broker does; all must be delivered in the end."""
    with _publish(path, *options) as producer:
        yield producer
        _end(producer, 0)


@contextmanager
def publishing_slowly(path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The same, row by row as long as the block lasts, however slow the machine; then the rest at once."""
    with _publish(path, "--rate", "20", *options) as producer:
        yield producer
        producer.send_signal(signal.SIGINT)
        # It may have been done already.
        _end(producer, 0, 130)
    with publishing(path, *options):
        pass


def _publish(path: Path, *options: str) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("lakefeed-producer")), "publish", *options, str(path)]
    address = ["--kafka-bootstrap-servers", f"localhost:{PORTS['KAFKA']}"]
    return subprocess.Popen([*command, *address], cwd=path.parent, stderr=subprocess.PIPE, text=True)


def _end(producer: subprocess.Popen[str], *codes: int) -> None:
    _, said = producer.communicate(timeout=240)
    assert producer.returncode in codes, said


def write_rows(path: Path, count: int) -> Path:
    header, *rows = (ROOT / "data" / "prices.csv").read_text().splitlines()
    path.write_text("\n".join([header, *(rows[n % len(rows)] for n in range(count))]) + "\n")
    return path


def wait_all_stored(kafka: str, s3: Any, timeout: float = 240) -> dict[Position, bytes]:
    """Wait until each record has its object; returns the records."""
    sent = records(kafka)
    wait_for(
        lambda: len(stored(s3)) >= len(sent),
        timeout,
        lambda: f"{len(stored(s3))} of {len(sent)} stored\n{compose('logs', '--tail', '40', 'consumer')}",
        every=1,
    )
    assert stored(s3).keys() == sent.keys()
    assert stored(s3, "dead-letters/") == {}
    return sent
