"""What the broker's JMX agent really serves, against the queries of dashboards and rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client.parser import text_string_to_metric_families

from lakefeed_local.broker import Broker
from monitoring.catalogue import broker_metrics
from monitoring.check_queries import queries
from monitoring.promql import grouped_labels, selectors
from tests.helpers.waiting import wait_for

TOPIC = "watched"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker"), metrics_port=0) as broker:
        yield broker


@pytest.fixture(scope="module")
def served(broker: Broker) -> dict[str, set[str]]:
    """The series after a record went in and out, each with its labels."""
    client: dict[str, Any] = {"bootstrap.servers": broker.bootstrap_servers}
    # Without a name of its own it would be gone before the answer.
    admin = AdminClient(client)
    admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(timeout=60)
    producer = Producer(client)
    producer.produce(TOPIC, b"{}")
    assert producer.flush(30) == 0
    consumer = Consumer({**client, "group.id": "g", "auto.offset.reset": "earliest"})
    consumer.subscribe([TOPIC])
    record = wait_for(lambda: consumer.poll(1.0), timeout=60)
    assert record is not None
    assert record.value() == b"{}"
    consumer.close()
    with urlopen(f"http://127.0.0.1:{broker.metrics_port}/metrics", timeout=60) as response:
        text = response.read().decode()
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_query_of_the_broker_finds_its_series(served: dict[str, set[str]]) -> None:
    asked = [
        (expression, selector)
        for _, expression in queries()
        for selector in selectors(expression)
        if selector.name.startswith(("kafka_", "jvm_"))
    ]
    assert asked
    for expression, selector in asked:
        assert selector.name in served
        grouped = grouped_labels(expression) - {"job", "instance"}
        assert selector.labels | grouped <= served[selector.name], expression


def test_rules_make_only_what_the_catalogue_says(served: dict[str, set[str]]) -> None:
    known = {metric.name: set(metric.labels) for metric in broker_metrics()}
    for name, labels in served.items():
        if name.startswith("kafka_"):
            assert labels == known[name], name
