"""What `lakefeed-producer publish` does while Kafka is away, answers badly, or loses the topic."""

from __future__ import annotations

import resource
import signal
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

ROWS = 20_000


@pytest.fixture
def there(own_kafka: Broker, topic: str) -> Iterator[Topic]:
    there = Topic(own_kafka.bootstrap_servers, topic)
    yield there
    there.close()


class Run:
    """A run of ten seconds, some rows of which have arrived."""

    def __init__(self, folder: Path, there: Topic, **variables: str) -> None:
        write(folder / "x.csv", ROWS)
        command = ("publish", "x.csv", "--rate", "2000")
        self.process = start(folder, *command, kafka=there.kafka, topic=there.name, **variables)
        wait_for(lambda: there.size() > 1_000 or self.process.poll() is not None, 60)
        assert self.process.stderr is not None
        self.stderr = self.process.stderr

    def wait_for_line(self, text: str) -> str:
        said = []
        for line in self.stderr:
            if text in line:
                return line
            said.append(line)
        raise AssertionError(f"it ended without {text!r}: {said}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with self.process:
            self.process.kill()

    def end(self) -> tuple[int, list[str]]:
        """Exit code, and the lines from here on that are not of the progress."""
        said = [line.rstrip() for line in self.stderr if " left" not in line]
        return self.process.wait(60), said


def waits(said: list[str]) -> int:
    """How many waits for Kafka were told. On a busy machine there may be others than the test's."""
    return len([line for line in said if line.startswith("waiting for Kafka")])


def test_a_broker_that_is_restarted_costs_no_row(own_kafka: Broker, there: Topic, tmp_path: Path) -> None:
    with Run(tmp_path, there) as run:
        own_kafka.restart_kafka()
        code, said = run.end()
        assert code == 3, said
        check_whole(there, good(ROWS))


def test_a_broker_that_is_killed_costs_no_row(own_kafka: Broker, there: Topic, tmp_path: Path) -> None:
    with Run(tmp_path, there) as run:
        own_kafka.kill_kafka()
        own_kafka.start_kafka()
        code, said = run.end()
        assert code == 3, said
        check_whole(there, good(ROWS))


def test_a_zookeeper_that_is_restarted_costs_no_row(own_kafka: Broker, there: Topic, tmp_path: Path) -> None:
    with Run(tmp_path, there) as run:
        own_kafka.restart_zookeeper()
        code, said = run.end()
        assert code == 3, said
        check_whole(there, good(ROWS))


def test_a_broker_that_is_away_is_waited_for(own_kafka: Broker, there: Topic, tmp_path: Path) -> None:
    with Run(tmp_path, there) as run:
        own_kafka.stop_kafka()
        run.wait_for_line(f"waiting for Kafka at {own_kafka.bootstrap_servers}: Connect to 127.0.0.1:")
        own_kafka.start_kafka()
        code, said = run.end()
        assert code == 3, said
        assert said.count("Kafka answers again") == 1 + waits(said)
        check_whole(there, good(ROWS))


def test_a_broker_that_stays_away_ends_the_run_which_goes_on_later(
    own_kafka: Broker, there: Topic, tmp_path: Path
) -> None:
    with Run(tmp_path, there, LAKEFEED_DELIVERY_TIMEOUT_SECONDS="15") as run:
        own_kafka.stop_kafka()
        code, said = run.end()
        assert code == 1
        assert waits(said) == 1
        assert (
            "then the broker stopped taking them (no acknowledgement for 15 s: Connect to 127.0.0.1:"
            in said[-1]
        )
        assert said[-1].endswith("The same command goes on where this one stopped")
        own_kafka.start_kafka()
        done = publish(tmp_path, "x.csv", kafka=there.kafka, topic=there.name)
        assert done.returncode == 3, done.stderr
        check_whole(there, good(ROWS))


def test_a_stop_is_heard_while_the_broker_is_away(own_kafka: Broker, there: Topic, tmp_path: Path) -> None:
    with Run(tmp_path, there) as run:
        own_kafka.stop_kafka()
        run.wait_for_line("waiting for Kafka")
        run.process.send_signal(signal.SIGTERM)
        code, said = run.end()
        assert code == 130
        assert "interrupted: every row up to" in said[-1]
        own_kafka.start_kafka()
        assert publish(tmp_path, "x.csv", kafka=there.kafka, topic=there.name).returncode == 3
        check_whole(there, good(ROWS))


def test_a_topic_that_is_removed_ends_the_run_and_the_next_one_sends_all(
    own_kafka: Broker, there: Topic, tmp_path: Path
) -> None:
    with Run(tmp_path, there) as run:
        admin = AdminClient({"bootstrap.servers": there.kafka})
        admin.delete_topics([there.name])[there.name].result(60)
        code, said = run.end()
        assert code == 1, said
        assert "the topic was removed" in said[-1]
        done = publish(tmp_path, "x.csv", kafka=there.kafka, topic=there.name)
        assert done.returncode == 3, done.stderr
        check_whole(there, good(ROWS))


def test_a_topic_that_is_made_anew_meanwhile_is_noticed(
    own_kafka: Broker, there: Topic, tmp_path: Path
) -> None:
    with Run(tmp_path, there) as run:
        admin = AdminClient({"bootstrap.servers": there.kafka})
        admin.delete_topics([there.name])[there.name].result(60)
        wait_for(lambda: there.name not in admin.list_topics(timeout=10).topics, 30)
        wait_for(lambda: made(admin, there.name), 30)
        code, said = run.end()
        assert code == 1, said
        assert "the topic was removed" in said[-1]


def made(admin: AdminClient, topic: str) -> bool:
    """A topic that is still being deleted cannot be made."""
    try:
        admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(60)
    except KafkaException:
        return False
    return True


def test_partitions_that_are_added_change_nothing_for_a_run(
    own_kafka: Broker, there: Topic, tmp_path: Path
) -> None:
    with Run(tmp_path, there, LAKEFEED_TOPIC_PARTITIONS="2") as run:
        admin = AdminClient({"bootstrap.servers": there.kafka})
        admin.create_partitions([NewPartitions(there.name, 5)])[there.name].result(60)
        code, said = run.end()
        assert code == 3, said
        assert there.partitions() == 5
        check_whole(there, good(ROWS))
        assert [bool(records) for records in there.records()] == [True, True, False, False, False]


def test_a_broker_whose_disk_takes_no_more_is_waited_for(
    own_kafka: Broker, there: Topic, tmp_path: Path
) -> None:
    """A limit on the size of its files is to Kafka what a full disk is: it stops when it cannot write."""
    with Run(tmp_path, there) as run:
        resource.prlimit(kafka_pid(own_kafka), resource.RLIMIT_FSIZE, (4096, 4096))
        run.wait_for_line("waiting for Kafka")
        own_kafka.kill_kafka()
        own_kafka.start_kafka()
        code, said = run.end()
        assert code == 3, said
        check_whole(there, good(ROWS))
