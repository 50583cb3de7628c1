"""The embedded broker serves, keeps its data, and leaves nothing behind."""

from __future__ import annotations

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from lakefeed_local.broker import Broker


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
