"""Members that stop and come back, offsets that jump, topics that change under the consumer's feet."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
)

from tests.helpers.consuming import (
    by_position,
    committed,
    ends,
    events,
    make_topic,
    objects,
    publish,
    wait_stored,
    with_slow_puts,
)
from tests.helpers.services import Service
from tests.helpers.waiting import wait_for

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def recreate_topic(kafka: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_topics([topic])[topic].result(30)

    def made() -> bool:
        try:
            make_topic(kafka, topic)
        except KafkaException:  # for a moment it is still marked for deletion
            return False
        return True

    wait_for(made, 30, "the topic is recreated")


def transaction(kafka: str, topic: str, values: list[bytes | None], *, commit: bool) -> None:
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(30)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value)
    producer.flush(30)
    if commit:
        producer.commit_transaction(30)
    else:
        producer.abort_transaction(30)


def test_a_suspended_member_returns_without_loss(
    kafka: str, topic: str, bucket: str, s3: S3Client, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    make_topic(kafka, topic, partitions=2)
    group = consumer_settings["LAKEFEED_CONSUMER_GROUP"]
    # Slow enough that each worker has puts in flight when the other one is stopped or resumed.
    held = publish(kafka, topic, events(500))
    consumer_settings["LAKEFEED_PUTS_IN_FLIGHT"] = "16"
    program = with_slow_puts(0.4)
    with Service("consumer", log=tmp_path / "one", program=program, **consumer_settings) as one:
        wait_stored(one, 50)
        one.process.send_signal(signal.SIGSTOP)
        with Service("consumer", log=tmp_path / "two", program=program, **consumer_settings) as two:
            # Its session of 6 s ends, and the second worker gets all partitions.
            wait_for(lambda: two.metric("lakefeed_consumer_assigned_partitions") == 2, 60, lambda: two.log)
            wait_stored(two, 20)
            one.process.send_signal(signal.SIGCONT)
            wait_for(
                lambda: (
                    (
                        one.metric("lakefeed_consumer_assigned_partitions"),
                        two.metric("lakefeed_consumer_assigned_partitions"),
                    )
                    == (1, 1)
                ),
                60,
                lambda: one.log + two.log,
            )
            wait_for(lambda: committed(kafka, topic, group, 2) == ends(held), 90, lambda: one.log + two.log)
            assert (one.stop(), two.stop()) == (0, 0)
    assert by_position(objects(s3, bucket, "events/")) == held
    assert objects(s3, bucket, "dead-letters/") == {}


def test_gaps_in_offsets_stop_no_commit_and_aborted_records_are_not_events(
    kafka: str, topic: str, bucket: str, s3: S3Client, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    make_topic(kafka, topic)
    # One event, then a hole of nine offsets, and so on: each transaction ends with a marker of its own.
    good = events(60)
    transaction(kafka, topic, good[:1], commit=True)
    transaction(kafka, topic, events(8, start=900), commit=False)
    transaction(kafka, topic, good[1:20], commit=True)
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        wait_stored(consumer, 20)
        transaction(kafka, topic, events(30, start=900), commit=False)
        transaction(kafka, topic, good[20:40], commit=True)
        wait_stored(consumer, 40)
        publish(kafka, topic, good[40:])
        wait_stored(consumer, 60)
        stored = by_position(objects(s3, bucket, "events/"))
        last = max(offset for _, offset in stored)
        assert last > 60 + 38
        group = consumer_settings["LAKEFEED_CONSUMER_GROUP"]
        wait_for(
            lambda: committed(kafka, topic, group, 1) == {0: last + 1}, 30, lambda: consumer.log, every=0.2
        )
        assert consumer.get("/healthz")[0] == 200
    assert [stored[key] for key in sorted(stored)] == good


def offsets(kafka: str, topic: str) -> list[int]:
    """The offsets that a topic of one partition still has."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "none", "enable.auto.commit": False})
    start, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
    consumer.assign([TopicPartition(topic, 0, start)])
    found: list[int] = []
    while not found or found[-1] < end - 1:
        message = consumer.poll(10)
        assert message is not None, f"{end} offsets, and none after {found[-1:]}"
        found.append(message.offset() or 0)
    consumer.close()
    return found


@pytest.fixture
def eager_cleaner(kafka: str) -> Iterator[None]:
    """A broker whose log cleaner runs every 0.2 s, not every 15 s."""
    admin = AdminClient({"bootstrap.servers": kafka})
    broker = str(min(admin.list_topics(timeout=30).brokers))

    def alter(operation: AlterConfigOpType) -> None:
        entry = ConfigEntry("log.cleaner.backoff.ms", "200", incremental_operation=operation)
        resource = ConfigResource(ConfigResource.Type.BROKER, broker, incremental_configs=[entry])
        admin.incremental_alter_configs([resource])[resource].result(30)

    alter(AlterConfigOpType.SET)
    yield
    alter(AlterConfigOpType.DELETE)


@pytest.mark.usefixtures("eager_cleaner")
def test_a_compacted_topic_is_read_to_its_end(
    kafka: str,
    topic: str,
    bucket: str,
    s3: S3Client,
    consumer_settings: dict[str, str],
    tmp_path: Path,
) -> None:
    make_topic(
        kafka,
        topic,
        config={
            "cleanup.policy": "compact",
            "segment.ms": "100",
            "min.cleanable.dirty.ratio": "0.01",
            "min.compaction.lag.ms": "0",
        },
    )
    producer = Producer({"bootstrap.servers": kafka})
    written = 0

    def compacted() -> bool:
        """Write the same keys again and again, until the log has holes."""
        nonlocal written
        for number in range(20):
            producer.produce(topic, orjson.dumps({"n": written}), key=str(number % 3).encode())
            written += 1
        producer.flush(30)
        return len(offsets(kafka, topic)) < written

    wait_for(compacted, 60, "the log was compacted", every=0.2)
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        group = consumer_settings["LAKEFEED_CONSUMER_GROUP"]
        wait_for(
            lambda: committed(kafka, topic, group, 1) == {0: written}, 60, lambda: consumer.log, every=0.2
        )
    stored = by_position(objects(s3, bucket, "events/"))
    assert 3 <= len(stored) <= written
    assert stored[0, written - 1] == orjson.dumps({"n": written - 1})
    assert all(body == orjson.dumps({"n": offset}) for (_, offset), body in stored.items())


@pytest.mark.parametrize("while_stopped", [True, False])
def test_a_topic_recreated_while_the_consumer_was_stopped_is_read_from_its_start(
    kafka: str,
    topic: str,
    bucket: str,
    s3: S3Client,
    consumer_settings: dict[str, str],
    tmp_path: Path,
    while_stopped: bool,
) -> None:
    make_topic(kafka, topic)
    old = publish(kafka, topic, events(20))
    group = consumer_settings["LAKEFEED_CONSUMER_GROUP"]
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        wait_for(lambda: committed(kafka, topic, group, 1) == {0: 20}, 60, lambda: consumer.log, every=0.2)
        # It does not notice: the new topic is already longer than the old one when it resumes.
        consumer.process.send_signal(signal.SIGTERM if while_stopped else signal.SIGSTOP)
        if while_stopped:
            assert consumer.process.wait(40) == 0
        recreate_topic(kafka, topic)
        new = publish(kafka, topic, events(50, start=1000))
        if not while_stopped:
            consumer.process.send_signal(signal.SIGCONT)
            new |= publish(kafka, topic, events(5, start=2000))
            wait_for(
                lambda: committed(kafka, topic, group, 1) == {0: 55}, 90, lambda: consumer.log, every=0.2
            )
    if while_stopped:
        with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
            wait_for(
                lambda: committed(kafka, topic, group, 1) == {0: 50}, 60, lambda: consumer.log, every=0.2
            )
            assert consumer.metric("lakefeed_consumer_objects_total", outcome="conflict") == 20
    # The old objects stay; new events with their keys become dead letters, whole and with the reason.
    stored = by_position(objects(s3, bucket, "events/"))
    assert {key: stored[key] for key in old} == old
    letters = [orjson.loads(body) for body in objects(s3, bucket, "dead-letters/").values()]
    assert sorted(letter["offset"] for letter in letters) == list(range(20))
    assert all("conflict" in letter["reason"] for letter in letters)
    assert {key: body for key, body in stored.items() if key not in old} == {
        key: body for key, body in new.items() if key not in old
    }
    assert "Conflict: events/" in consumer.log


def test_partitions_added_while_it_runs_are_read(
    kafka: str, topic: str, bucket: str, s3: S3Client, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    make_topic(kafka, topic)
    held = publish(kafka, topic, events(20))
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        wait_stored(consumer, 20)
        admin = AdminClient({"bootstrap.servers": kafka})
        admin.create_partitions([NewPartitions(topic, 3)])[topic].result(30)

        def all_used() -> bool:
            held.update(publish(kafka, topic, events(30, start=20)))
            return len(ends(held)) == 3

        wait_for(all_used, 60, "the producer uses the new partitions", every=0.5)
        group = consumer_settings["LAKEFEED_CONSUMER_GROUP"]
        wait_for(lambda: committed(kafka, topic, group, 3) == ends(held), 90, lambda: consumer.log, every=0.2)
    assert by_position(objects(s3, bucket, "events/")) == held
