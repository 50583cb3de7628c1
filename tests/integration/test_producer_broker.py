"""`lakefeed-producer publish` while Kafka is unreachable, responds with errors, or loses the topic."""

from __future__ import annotations

import json
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from lakefeed_local.broker import Broker
from tests.helpers.brokers import kafka_pid
from tests.helpers.publishing import Topic, check_whole, good, publish, start, write
from tests.helpers.waiting import wait_for


@pytest.fixture
def there(own_kafka: Broker, topic: str) -> Iterator[Topic]:
    """A topic of a broker that may be stopped."""
    there = Topic(own_kafka.bootstrap_servers, topic)
    yield there
    there.close()


@pytest.fixture
def shared_there(kafka: str, topic: str) -> Iterator[Topic]:
    """A topic of the broker that all tests share."""
    there = Topic(kafka, topic)
    yield there
    there.close()


class Run:
    """A run of `publish` with many rows, of which some have arrived."""

    def __init__(self, folder: Path, there: Topic, *, rows: int, rate: int, **variables: str) -> None:
        folder.mkdir(exist_ok=True)
        write(folder / "x.csv", rows)
        command = ("publish", "x.csv", "--rate", str(rate), "--summary", "s.json")
        self._summary = folder / "s.json"
        self.process = start(folder, *command, kafka=there.kafka, topic=there.name, **variables)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        wait_for(
            lambda: there.size() > 50 or self.process.poll() is not None,
            60,
            lambda: f"nothing arrives: {self.lines}",
        )

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if " left" not in line:  # the progress
                self.lines.append(line.rstrip())

    def wait_for_line(self, text: str, after: int = 0) -> None:
        """Wait for a line with this text, after the first `after` lines."""
        wait_for(
            lambda: any(text in line for line in self.lines[after:]) or self.process.poll() is not None,
            90,
            lambda: f"no line with {text!r}: {self.lines}",
        )
        assert any(text in line for line in self.lines[after:]), f"it ended without {text!r}: {self.lines}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with self.process:
            self.process.kill()
        self._reader.join()

    def end(self) -> int:
        """Wait for the end; returns the exit code."""
        code = self.process.wait(90)
        self._reader.join()
        return code

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    @property
    def waits(self) -> bool:
        """Whether it reported that it waits for Kafka, and not yet that Kafka responds again."""
        reported = [
            line for line in self.lines if line.startswith(("waiting for Kafka", "Kafka responds again"))
        ]
        return bool(reported) and reported[-1].startswith("waiting")

    @property
    def delivered(self) -> int:
        return int(json.loads(self._summary.read_text())["events_delivered"])


def test_a_run_survives_every_fault_of_its_broker(own_kafka: Broker, there: Topic, tmp_path: Path) -> None:
    """One run through one fault after another, each of which is over when rows arrive again."""
    rows = 20_000  # at this rate, more than all faults take on a busy machine

    def rows_arrive_after(fault: str) -> None:
        before = there.size()
        wait_for(
            lambda: there.size() > before + 50 and not run.waits,
            60,
            lambda: f"no row is acknowledged after {fault}: {run.lines}",
        )

    with Run(tmp_path, there, rows=rows, rate=100) as run:
        own_kafka.stop_kafka()
        run.wait_for_line(f"waiting for Kafka at {own_kafka.bootstrap_servers}: Connect to 127.0.0.1:")
        own_kafka.start_kafka()
        run.wait_for_line("Kafka responds again")
        rows_arrive_after("a broker that was stopped for long enough to be reported")

        own_kafka.restart_zookeeper()
        rows_arrive_after("a restart of ZooKeeper")

        own_kafka.kill_kafka()
        own_kafka.start_kafka()
        rows_arrive_after("a kill of the broker")

        # To Kafka, a limit on the size of its files is like a full disk: it stops when it cannot write.
        before = len(run.lines)
        resource.prlimit(kafka_pid(own_kafka), resource.RLIMIT_FSIZE, (4096, 4096))
        run.wait_for_line("waiting for Kafka", before)
        own_kafka.kill_kafka()
        own_kafka.start_kafka()
        rows_arrive_after("a full disk")

        assert run.stop() == 130, run.lines
        words = [
            line.split(" ")[0] for line in run.lines if line.startswith(("waiting for", "Kafka responds"))
        ]
        assert words == ["waiting", "Kafka"] * (len(words) // 2), (
            "each wait is reported once, and so is its end"
        )
        check_whole(there, good(rows)[: run.delivered])
    done = publish(tmp_path, "x.csv", kafka=there.kafka, topic=there.name)
    assert done.returncode == 3, done.stderr
    check_whole(there, good(rows))


def test_a_broker_that_stays_unreachable_ends_the_run_which_can_be_resumed(
    own_kafka: Broker, there: Topic, tmp_path: Path
) -> None:
    """Another run, with a longer timeout, is stopped by a signal."""
    rows = 6_000
    other = Topic(own_kafka.bootstrap_servers, f"{there.name}-other")
    timeout = {"LAKEFEED_DELIVERY_TIMEOUT_SECONDS": "6"}
    with (
        Run(tmp_path / "a", there, rows=rows, rate=100, **timeout) as gives_up,
        Run(tmp_path / "b", other, rows=rows, rate=100) as stopped,
    ):
        own_kafka.kill_kafka()
        stopped.wait_for_line("waiting for Kafka")
        assert stopped.stop() == 130
        assert "interrupted: every row up to" in stopped.lines[-1]
        assert gives_up.end() == 1
        assert any(line.startswith("waiting for Kafka") for line in gives_up.lines), gives_up.lines
        last, delivered = gives_up.lines[-1], gives_up.delivered
        assert delivered >= 50
        assert (
            f"{delivered:,} events were delivered, then the broker did not accept any more "
            "(no acknowledgement for 6 s: Connect to 127.0.0.1:" in last
        )
        assert f"The first undelivered row is {good(rows)[delivered]:,}. " in last
        assert last.endswith("Run the same command again to resume")
    own_kafka.start_kafka()
    for folder, topic in (("a", there), ("b", other)):
        done = publish(tmp_path / folder, "x.csv", kafka=topic.kafka, topic=topic.name)
        assert done.returncode == 3, done.stderr
        check_whole(topic, good(rows))
    other.close()


# ---- the topic -------------------------------------------------------------------------------------


def test_a_deleted_topic_ends_the_run_and_the_next_one_sends_all(shared_there: Topic, tmp_path: Path) -> None:
    there, rows = shared_there, 3_000
    with Run(tmp_path, there, rows=rows, rate=100) as run:
        remove(AdminClient({"bootstrap.servers": there.kafka}), there.name)
        assert run.end() == 1, run.lines
        assert "the topic was deleted" in run.lines[-1]
    done = publish(tmp_path, "x.csv", kafka=there.kafka, topic=there.name)
    assert done.returncode == 3, done.stderr
    check_whole(there, good(rows))


def test_a_recreated_topic_is_detected(shared_there: Topic, tmp_path: Path) -> None:
    there = shared_there
    with Run(tmp_path, there, rows=3_000, rate=100) as run:
        admin = AdminClient({"bootstrap.servers": there.kafka})
        remove(admin, there.name)
        wait_for(lambda: there.name not in admin.list_topics(timeout=10).topics, 30)
        wait_for(lambda: created(admin, there.name), 30)
        assert run.end() == 1, run.lines
        assert "the topic was deleted" in run.lines[-1]


def remove(admin: AdminClient, topic: str) -> None:
    admin.delete_topics([topic])[topic].result(60)


def created(admin: AdminClient, topic: str) -> bool:
    """Create a topic; False while it is still being deleted."""
    try:
        admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(60)
    except KafkaException:
        return False
    return True


def test_partitions_that_are_added_change_nothing_for_a_run(shared_there: Topic, tmp_path: Path) -> None:
    there, rows = shared_there, 3_000
    with Run(tmp_path, there, rows=rows, rate=1000, LAKEFEED_TOPIC_PARTITIONS="2") as run:
        admin = AdminClient({"bootstrap.servers": there.kafka})
        admin.create_partitions([NewPartitions(there.name, 5)])[there.name].result(60)
        assert run.end() == 3, run.lines
    assert there.partitions() == 5
    check_whole(there, good(rows))
    assert [bool(records) for records in there.records()] == [True, True, False, False, False]
