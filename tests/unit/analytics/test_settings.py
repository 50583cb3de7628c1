"""Settings: defaults, and errors for invalid values."""

from __future__ import annotations

from contextlib import closing

import pytest

from lakefeed_analytics.settings import AnalyticsSettings, table_name
from lakefeed_common import aws
from lakefeed_common.errors import SettingsError
from lakefeed_common.settings import load


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith(("LAKEFEED_", "AWS_"))]:
        monkeypatch.delenv(name)


def test_defaults() -> None:
    settings = load(AnalyticsSettings)
    assert settings.http_port == 8003
    assert settings.topic_names == ("demo_testing",)
    assert settings.default_table == "demo_testing"
    assert settings.results == "s3://lakefeed/athena-results/"
    assert settings.topic_prefix("x") == "events/x/"
    assert list(settings.queries_folder.glob("*.sql"))
    assert not settings.create_bucket


def test_each_layout_has_its_tables_and_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED_LAYOUT", "batches")
    settings = load(AnalyticsSettings)
    assert settings.default_table == "batches_demo_testing"
    assert settings.raw_table("A.b") == "batches_a_b"
    assert settings.topic_location("x") == "s3://lakefeed/batches/x/"
    assert settings.topic_locations("x") == ("s3://lakefeed/events/x/", "s3://lakefeed/batches/x/")


def test_a_call_of_20_s_is_not_a_stall_and_a_hanging_one_is_detected_within_30_s() -> None:
    settings = load(AnalyticsSettings)
    with closing(aws.client("glue", settings)) as glue:
        config = glue.meta.config
    assert config.read_timeout > 20
    # The work loop beats before and after each attempt.
    assert config.connect_timeout + config.read_timeout < settings.stall_seconds <= 30


def test_topics_come_from_their_own_variable_or_the_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED_TOPIC", "prices")
    assert load(AnalyticsSettings).topic_names == ("prices",)
    monkeypatch.setenv("LAKEFEED_TOPICS", "b,a,b")
    assert load(AnalyticsSettings).topic_names == ("b", "a")


@pytest.mark.parametrize(
    ("topic", "table"), [("demo_testing", "demo_testing"), ("Stock-Prices.v2", "stock_prices_v2"), ("A", "a")]
)
def test_tables_are_named_as_glue_names_them(topic: str, table: str) -> None:
    assert table_name(topic) == table


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LAKEFEED_TOPICS", "a,,b"),
        ("LAKEFEED_TOPICS", "a.b,a-b"),
        ("LAKEFEED_GLUE_DATABASE", "My Database"),
        ("LAKEFEED_CRAWLER_ROLE", "arn:aws:iam::1:role/x"),
        ("LAKEFEED_CRAWLER_SCHEDULE", "every day"),
        ("LAKEFEED_CRAWLER_SCHEDULE", "cron(0 * * *)"),
        ("LAKEFEED_CRAWL_POLL_SECONDS", "0"),
        ("LAKEFEED_QUERY_BYTES_LIMIT", "9999999"),
        ("LAKEFEED_RESULTS_LOCATION", "s3://bucket/no-slash-at-the-end"),
        ("LAKEFEED_RESULTS_LOCATION", "s3://lakefeed/events/x/"),
        ("LAKEFEED_RESULTS_LOCATION", "s3://lakefeed/"),
        ("LAKEFEED_CREATE_BUCKET", "perhaps"),
    ],
)
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load(AnalyticsSettings)
    assert variable in str(caught.value)


@pytest.mark.parametrize("role", ["lakefeed-crawler", "arn:aws:iam::123456789012:role/service-role/x"])
def test_a_role_is_a_name_or_an_arn(role: str) -> None:
    assert AnalyticsSettings(crawler_role=role).crawler_role == role
