"""What the programs of a demo get of the caller's environment."""

from __future__ import annotations

import pytest

from lakefeed_local.demo import callers_environment

HOW = {
    "PATH": "/bin",
    "LAKEFEED_DELIMITER": ";",
    "LAKEFEED_ENCODING": "cp1252",
    "LAKEFEED_KEY": "id",
    "LAKEFEED_COLUMN_NAMES": "as-is",
    "LAKEFEED_SCHEMA_FILE": "s.json",
    "LAKEFEED_DEAD_LETTER_LIMIT": "5",
    "LAKEFEED_LOG_FORMAT": "json",
}


@pytest.mark.parametrize(
    "where",
    [
        "AWS_PROFILE",
        "AWS_ENDPOINT_URL_S3",
        "LAKEFEED_BUCKET",
        "LAKEFEED_EVENTS_PREFIX",
        "LAKEFEED_HTTP_PORT",
        "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS",
        "LAKEFEED_KAFKA_SASL_PASSWORD",
        "LAKEFEED_KAFKA_SECURITY_PROTOCOL",
        "LAKEFEED_TOPIC",
        "LAKEFEED_TOPICS",
        "LAKEFEED_TOPIC_REPLICAS",
    ],
)
def test_settings_of_data_apply_and_addresses_do_not(where: str) -> None:
    assert callers_environment({**HOW, where: "x"}) == HOW
