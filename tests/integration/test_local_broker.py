"""The embedded broker serves, keeps its data, and leaves nothing behind."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from lakefeed_common.errors import SettingsError
from lakefeed_local.broker import Broker
from lakefeed_local.process import StartError, sole_user


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


def test_topics_and_address_survive_restarts_and_kills(own_kafka: Broker, kafka: str, topic: str) -> None:
    address = own_kafka.bootstrap_servers
    create(address, topic)
    produce(address, topic, ["before"])
    # Other brokers on this machine do not matter.
    assert topic not in AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=60).topics

    own_kafka.kill_kafka()
    own_kafka.start_kafka()
    produce(address, topic, ["after"])
    own_kafka.restart_zookeeper()
    own_kafka.restart_kafka()

    assert own_kafka.bootstrap_servers == address
    assert consume(address, topic, 2) == ["before", "after"]


def test_a_port_that_is_in_use_is_reported(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with (
            pytest.raises(SettingsError, match=f"LAKEFEED_LOCAL_KAFKA_PORT={port}"),
            Broker(tmp_path, kafka_port=port),
        ):
            pass


def test_a_folder_is_used_by_one_run_at_a_time(own_kafka: Broker) -> None:
    with pytest.raises(SettingsError, match="another run"), Broker(own_kafka.folder):
        pass


def test_a_broker_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    broker = Broker(tmp_path, overrides={"log.cleaner.threads": "-1"})

    with pytest.raises(StartError, match=r"log\.cleaner\.threads"):
        broker.start()

    with sole_user(tmp_path):
        assert not broker.running
