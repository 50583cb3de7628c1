"""`lakefeed-producer watch` as a process, and the rows that it published."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests.helpers.waiting import wait_for


class Watcher:
    """A running watcher; its log goes to a file."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_for_log(self, text: str, timeout: float = 40) -> None:
        wait_for(lambda: text in self.log, timeout, lambda: f"{text!r} in the log:\n{self.log}")

    def get(self, path: str) -> tuple[int, str]:
        found = re.search(r"metrics and health on port (\d+)", self.log)
        assert found
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def watching(base: Path, kafka: str, topic: str, *arguments: str, **variables: str) -> Iterator[Watcher]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LAKEFEED_")}
    log = base / f"watch-{len(list(base.glob('watch-*')))}.log"
    (base / "in").mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "lakefeed_producer", "watch", "in", *arguments],
            cwd=base,
            env={
                **kept,
                "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": kafka,
                "LAKEFEED_TOPIC": topic,
                "LAKEFEED_HTTP_PORT": "0",
                "LAKEFEED_STATE_FOLDER": "state",
                "LAKEFEED_WATCH_SETTLE_SECONDS": "0.3",
                "LAKEFEED_WATCH_POLL_SECONDS": "0.1",
                **variables,
            },
            stderr=out,
        )
    try:
        watcher = Watcher(process, log)
        watcher.wait_for_log("metrics and health on port")
        yield watcher
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def write(base: Path, name: str, rows: int) -> None:
    (base / "in").mkdir(parents=True, exist_ok=True)
    (base / "in" / name).write_text("n,t\n" + "".join(f"{row},x\n" for row in range(1, rows + 1)))


def numbers(kafka: str, topic: str) -> list[int]:
    """The rows in the topic, in its order."""
    consumer = Consumer(
        {"bootstrap.servers": kafka, "group.id": "t", "enable.auto.commit": False, "log_level": 0}
    )
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
        consumer.assign([TopicPartition(topic, 0, 0)])
        values: list[bytes] = []
        while len(values) < end:
            values += [message.value() or b"" for message in consumer.consume(end, timeout=10)]
    except KafkaException:
        return []  # no topic yet
    finally:
        consumer.close()
    return [json.loads(value)["n"] for value in values]
