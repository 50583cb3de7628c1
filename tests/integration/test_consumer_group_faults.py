"""The consumer in its group: members of another kind, records deleted unread, a broker that moves."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from lakefeed_local.broker import Broker
from tests.helpers.consuming import (
    by_position,
    committed,
    events,
    make_topic,
    objects,
    publish,
    wait_stored,
    wait_unready,
)
from tests.helpers.forwarding import Forwarder
from tests.helpers.services import Service, free_port
from tests.helpers.waiting import wait_for

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def test_a_member_with_another_protocol_is_reported_and_outlived(
    kafka: str, topic: str, bucket: str, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    make_topic(kafka, topic)
    publish(kafka, topic, events(20))
    other = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": consumer_settings["LAKEFEED_CONSUMER_GROUP"],
            "partition.assignment.strategy": "range",
            "enable.auto.commit": False,
        }
    )
    reason = "another member uses a different protocol"

    def named(consumer: Service) -> bool:
        other.poll(0)  # so that it stays a member
        return reason in consumer.unready_reasons().get("kafka", "")

    def joined() -> bool:
        other.poll(0.2)
        return bool(other.assignment())

    try:
        other.subscribe([topic])
        wait_for(joined, 60, "the other is a member")
        with (
            Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer,
            Service("consumer", "run", log=tmp_path / "stopped", **consumer_settings) as stopped,
        ):
            for each in (consumer, stopped):
                wait_for(partial(named, each), 60, lambda: consumer.log + stopped.log, every=0.5)
                assert each.get("/healthz")[0] == 200
            assert stopped.stop() == 0
            other.close()
            wait_stored(consumer, 20)
            consumer.wait_ready()
            assert consumer.stop() == 0
    finally:
        other.close()


def test_records_that_are_deleted_before_they_are_read_are_counted(
    kafka: str, topic: str, bucket: str, s3: S3Client, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    make_topic(kafka, topic)
    held = publish(kafka, topic, events(200))
    group = consumer_settings["LAKEFEED_CONSUMER_GROUP"]
    earlier = Consumer({"bootstrap.servers": kafka, "group.id": group, "enable.auto.commit": False})
    earlier.commit(offsets=[TopicPartition(topic, 0, 100)], asynchronous=False)
    earlier.close()
    admin = AdminClient({"bootstrap.servers": kafka})
    [deleted] = admin.delete_records([TopicPartition(topic, 0, 150)]).values()
    deleted.result(30)
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        wait_stored(consumer, 50)
        wait_for(lambda: committed(kafka, topic, group, 1) == {0: 200}, 30, lambda: consumer.log, every=0.2)
        consumer.wait_ready()
        assert consumer.metric("lakefeed_consumer_events_never_read_total") == 50
        assert consumer.log.count("events from offset 100 to 149 were deleted before they were read") == 1
        assert consumer.stop() == 0
    assert by_position(objects(s3, bucket, "")) == {at: value for at, value in held.items() if at[1] >= 150}


def test_a_broker_that_comes_back_under_another_address_is_found(
    topic: str, bucket: str, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    with Broker(tmp_path / "broker") as broker, Forwarder(broker.kafka_port) as forwarder:
        make_topic(broker.bootstrap_servers, topic)
        publish(broker.bootstrap_servers, topic, events(20))
        consumer_settings["LAKEFEED_KAFKA_BOOTSTRAP_SERVERS"] = f"127.0.0.1:{forwarder.port}"
        with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
            wait_stored(consumer, 20)
            broker.stop_kafka()
            wait_unready(consumer, "kafka", "no answer from Kafka")
            forwarder.target = broker.kafka_port = free_port()
            broker.start_kafka()
            publish(broker.bootstrap_servers, topic, events(20, start=20))
            wait_stored(consumer, 40, timeout=90)
            consumer.wait_ready()
            assert consumer.stop() == 0
