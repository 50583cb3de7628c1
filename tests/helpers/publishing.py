"""Runs of `lakefeed-producer publish`, the files that they publish, and the topic as a consumer reads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from lakefeed_producer.cli import main
from tests.helpers.commands import Done, run_command

Record = tuple[bytes | None, bytes, list[tuple[str, bytes]]]


def environment(kafka: str, topic: str, **variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LAKEFEED_")}
    return kept | _settings(kafka, topic, variables)


def _settings(kafka: str, topic: str, variables: Mapping[str, str]) -> dict[str, str]:
    return {
        "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "LAKEFEED_TOPIC": topic,
        "LAKEFEED_HTTP_PORT": "0",
        **variables,
    }


def start(folder: Path, *arguments: str, kafka: str, topic: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lakefeed_producer", *arguments],
        cwd=folder,
        env=environment(kafka, topic, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def command(folder: Path, *arguments: str, **variables: str) -> Done:
    """Run `lakefeed-producer` in this process: starting one takes longer than most commands."""
    return run_command(main, *arguments, folder=folder, **variables)


def publish(folder: Path, *arguments: str, kafka: str, topic: str, **variables: str) -> Done:
    """Run `lakefeed-producer publish` in this process."""
    return command(folder, "publish", *arguments, **_settings(kafka, topic, variables))


def read(kafka: str, topic: str, partitions: int = 1) -> list[Record]:
    """All records of a topic."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "tests", "enable.auto.commit": False})
    records: list[Record] = []
    try:
        for partition in range(partitions):
            where = TopicPartition(topic, partition, 0)
            _, end = consumer.get_watermark_offsets(where, timeout=10)
            consumer.assign([where])
            before = len(records)
            while len(records) - before < end:
                for message in consumer.consume(end, timeout=10):
                    assert not message.error()
                    headers: Any = message.headers() or []  # the stub allows what may be sent, a dict too
                    records.append((message.key(), message.value() or b"", headers))
    finally:
        consumer.close()
    return records


def make_topic(kafka: str, topic: str, partitions: int = 1, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    for future in admin.create_topics([NewTopic(topic, partitions, 1, config=config)]).values():
        future.result(10)


ROWS = 12_000


def write(path: Path, rows: int = ROWS) -> None:
    """Rows of which each fiftieth cannot become an event, with 37 keys and some without."""
    lines = [f"{row}" if row % 50 == 0 else f"{row},{row % 38 or ''}" for row in range(1, rows + 1)]
    path.write_text("\n".join(["n,k", *lines, ""]))


def good(rows: int = ROWS) -> list[int]:
    return [row for row in range(1, rows + 1) if row % 50]


class Topic:
    """Reads a topic as a consumer does."""

    def __init__(self, kafka: str, name: str) -> None:
        self.kafka = kafka
        self.name = name
        self._consumer = Consumer(
            {"bootstrap.servers": kafka, "group.id": "tests", "enable.auto.commit": False, "log_level": 0}
        )

    def partitions(self) -> int:
        return len(self._consumer.list_topics(timeout=30).topics[self.name].partitions)

    def size(self) -> int:
        """Number of records; 0 while there is no topic."""
        topic = self._consumer.list_topics(timeout=30).topics.get(self.name)
        places = [TopicPartition(self.name, partition) for partition in topic.partitions] if topic else []
        return sum(self._consumer.get_watermark_offsets(place, timeout=30)[1] for place in places)

    def records(self) -> list[list[tuple[int, str | None]]]:
        """Row and key of each record, by partition, in order; the value must be that row's."""
        found: list[list[tuple[int, str | None]]] = []
        for partition in range(self.partitions()):
            place = TopicPartition(self.name, partition, 0)
            _, end = self._consumer.get_watermark_offsets(place, timeout=30)
            self._consumer.assign([place])
            records: list[tuple[int, str | None]] = []
            while len(records) < end:
                for message in self._consumer.consume(end, timeout=10):
                    assert not message.error(), message.error()
                    row = int(dict(message.headers() or [])["row"] or 0)
                    event = json.loads(message.value() or b"")
                    assert event == {"n": row, "k": row % 38 or None}
                    key = message.key()
                    records.append((row, key.decode() if key else None))
            found.append(records)
        return found

    def close(self) -> None:
        self._consumer.close()


def check_whole(topic: Topic, rows: list[int], *, keyed: bool = False) -> None:
    """Each row once, ascending in each partition, each key in one partition."""
    partitions = topic.records()
    assert sorted(row for records in partitions for row, _ in records) == rows
    homes: dict[str, int] = {}
    for partition, records in enumerate(partitions):
        arrived = [row for row, _ in records]
        assert arrived == sorted(arrived), f"partition {partition} is out of order"
        for row, key in records:
            assert key == ((str(row % 38) if row % 38 else None) if keyed else None)
            if key is not None:
                assert homes.setdefault(key, partition) == partition, f"key {key} has moved"
    assert len([records for records in partitions if records]) > 1 or topic.partitions() == 1
