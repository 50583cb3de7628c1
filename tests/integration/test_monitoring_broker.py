"""What the broker's JMX agent really serves, against the queries of dashboards and rules."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.request import urlopen

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from monitoring.catalogue import broker_metrics
from monitoring.check_queries import queries
from monitoring.promql import grouped_labels, selectors
from tests.helpers.waiting import wait_for

# What the agent serves of the JVM by itself.
JVM_LABELS = {"area", "gc", "pool", "state", "version", "vendor", "runtime", "name"}


@pytest.fixture(scope="module")
def topic() -> str:
    return f"watched-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def families(watched_kafka: tuple[str, str], topic: str) -> list[Metric]:
    """All that is served after a record went in and out."""
    bootstrap_servers, url = watched_kafka
    client: dict[str, Any] = {"bootstrap.servers": bootstrap_servers}
    # Without a name of its own it would be gone before the answer.
    admin = AdminClient(client)
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(timeout=60)
    producer = Producer(client)
    producer.produce(topic, b"{}")
    assert producer.flush(30) == 0
    consumer = Consumer({**client, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    record = wait_for(lambda: consumer.poll(1.0), timeout=60)
    assert record is not None
    assert record.value() == b"{}"
    consumer.close()
    with urlopen(url, timeout=60) as response:
        return list(text_string_to_metric_families(response.read().decode()))


@pytest.fixture(scope="module")
def served(families: list[Metric]) -> dict[str, set[str]]:
    """The series, each with its labels."""
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def test_metrics_of_the_broker_are_a_bounded_set(
    families: list[Metric], served: dict[str, set[str]], topic: str
) -> None:
    samples = {
        (sample.name, sample.labels.get("partition")): sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("topic") == topic
    }
    assert samples["kafka_topic_messagesin_total", None] == 1
    assert samples["kafka_partition_logendoffset", "0"] == 1
    labels = {label for each in served.values() for label in each}
    assert labels <= {"topic", "partition", "request", "quantile", *JVM_LABELS}


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
