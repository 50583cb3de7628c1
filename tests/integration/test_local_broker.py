"""The embedded broker serves, keeps its data, and leaves nothing behind."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client.parser import text_string_to_metric_families

from lakefeed_common.errors import SettingsError
from lakefeed_local.broker import Broker
from lakefeed_local.process import StartError, sole_user

# What the agent tells of the JVM by itself.
JVM_LABELS = {"area", "gc", "pool", "state", "version", "vendor", "runtime", "name"}


def create(address: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": address})
    for created in admin.create_topics([NewTopic(topic, 1, 1)]).values():
        created.result(30)


def produce(address: str, topic: str, values: list[str]) -> None:
    producer = Producer({"bootstrap.servers": address, "acks": "all"})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(30) == 0


def consume(address: str, topic: str, count: int) -> list[str]:
    consumer = Consumer(
        {"bootstrap.servers": address, "group.id": f"read-{topic}", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    try:
        messages = consumer.consume(count, timeout=30)
    finally:
        consumer.close()
    return [(message.value() or b"").decode() for message in messages]


def test_the_shared_broker_serves(kafka: str, topic: str) -> None:
    create(kafka, topic)
    produce(kafka, topic, ["a", "b"])

    assert consume(kafka, topic, 2) == ["a", "b"]


def test_a_killed_broker_comes_back_with_its_data(own_kafka: Broker, topic: str) -> None:
    create(own_kafka.bootstrap_servers, topic)
    produce(own_kafka.bootstrap_servers, topic, ["before"])

    own_kafka.kill_kafka()
    own_kafka.start_kafka()

    produce(own_kafka.bootstrap_servers, topic, ["after"])
    assert consume(own_kafka.bootstrap_servers, topic, 2) == ["before", "after"]


def test_two_brokers_side_by_side_do_not_meet(own_kafka: Broker, kafka: str, topic: str) -> None:
    create(own_kafka.bootstrap_servers, topic)

    others = AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=10).topics

    assert topic not in others


def test_zookeeper_and_kafka_restart_in_order_with_their_topics(own_kafka: Broker, topic: str) -> None:
    create(own_kafka.bootstrap_servers, topic)
    produce(own_kafka.bootstrap_servers, topic, ["kept"])
    address = own_kafka.bootstrap_servers

    own_kafka.restart_zookeeper()
    own_kafka.restart_kafka()

    assert own_kafka.bootstrap_servers == address
    assert consume(address, topic, 1) == ["kept"]


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with (
            pytest.raises(SettingsError, match=f"LAKEFEED_LOCAL_KAFKA_PORT={port}"),
            Broker(tmp_path, kafka_port=port),
        ):
            pass


def test_a_folder_has_one_user(own_kafka: Broker) -> None:
    with pytest.raises(SettingsError, match="another run"), Broker(own_kafka.folder):
        pass


def test_a_broker_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    broker = Broker(tmp_path, overrides={"log.cleaner.threads": "-1"})

    with pytest.raises(StartError, match=r"log\.cleaner\.threads"):
        broker.start()

    with sole_user(tmp_path):
        assert not broker.running


def test_metrics_of_the_broker_are_a_bounded_set(tmp_path: Path, topic: str) -> None:
    with Broker(tmp_path, metrics_port=0) as broker:
        create(broker.bootstrap_servers, topic)
        produce(broker.bootstrap_servers, topic, ["a", "b"])
        with urllib.request.urlopen(f"http://127.0.0.1:{broker.metrics_port}/metrics", timeout=60) as answer:
            text = answer.read().decode()

    families = list(text_string_to_metric_families(text))
    samples = {
        (sample.name, sample.labels.get("partition")): sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("topic") == topic
    }
    assert samples["kafka_topic_messagesin_total", None] == 2
    assert samples["kafka_partition_logendoffset", "0"] == 2
    labels = {label for family in families for sample in family.samples for label in sample.labels}
    assert labels <= {"topic", "partition", "request", "quantile", *JVM_LABELS}
