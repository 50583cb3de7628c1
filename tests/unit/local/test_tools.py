"""Kafka's tools get what the settings say, and keep what they are given."""

from __future__ import annotations

import os

import pytest

from lakefeed_common.settings import KafkaSettings
from lakefeed_local import tools

KAFKA = KafkaSettings(kafka_bootstrap_servers="kafka:29092", topic="orders")
SERVER = ["--bootstrap-server", "kafka:29092"]


@pytest.mark.parametrize(
    ("tool", "given", "expected"),
    [
        ("topic", [], [*SERVER, "--describe", "--topic", "orders"]),
        ("topic", ["--list"], [*SERVER, "--list"]),
        (
            "topic",
            ["--create", "--partitions", "3"],
            [*SERVER, "--topic", "orders", "--create", "--partitions", "3"],
        ),
        ("topic", ["--describe", "--topic", "x"], [*SERVER, "--describe", "--topic", "x"]),
        ("console-producer", [], [*SERVER, "--topic", "orders"]),
        ("console-consumer", ["--topic=x"], [*SERVER, "--topic=x"]),
        (
            "console-consumer",
            ["--bootstrap-server", "a:1"],
            ["--topic", "orders", "--bootstrap-server", "a:1"],
        ),
        ("group", [], [*SERVER, "--describe", "--all-groups"]),
        ("group", ["--list"], [*SERVER, "--list"]),
        ("topic", ["--help"], [*SERVER, "--help"]),
    ],
)
def test_arguments(tool: str, given: list[str], expected: list[str]) -> None:
    assert tools.arguments(tool, KAFKA, given) == (expected, "")


def test_a_password_goes_through_a_pipe() -> None:
    kafka = KafkaSettings(
        kafka_security_protocol="SASL_SSL", kafka_sasl_username="lake", kafka_sasl_password='a"b\\c'
    )
    words, properties = tools.arguments("group", kafka, [])
    option, path = tools.config_arguments("group", properties)

    assert option == "--command-config"
    with os.fdopen(int(path.rpartition("/")[2])) as pipe:
        assert pipe.read() == (
            "security.protocol=SASL_SSL\n"
            "sasl.mechanism=SCRAM-SHA-512\n"
            "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required "
            'username="lake" password="a\\\\"b\\\\\\\\c";\n'
        )
    assert not any("a" + '"' in word for word in words)
