"""A crawl supports the crawler of the analytics service, and reports what it does not support of others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lakefeed_analytics.ensure import crawler_definition
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common.errors import InputError
from lakefeed_local.crawl.definition import Definition


@pytest.fixture
def ours() -> dict[str, Any]:
    """The crawler of the analytics service."""
    settings = AnalyticsSettings(bucket="lake", topic="orders")
    return {"Name": "c", **crawler_definition(settings)}


def test_the_crawler_of_the_analytics_service_is_supported(ours: dict[str, Any]) -> None:
    definition = Definition.parse(ours)
    assert [target.location for target in definition.targets] == ["s3://lake/events/orders/"]
    assert not definition.prefix


def test_so_is_that_of_batches() -> None:
    settings = AnalyticsSettings(bucket="lake", topic="orders", layout="batches")
    definition = Definition.parse({"Name": "c", **crawler_definition(settings)})
    assert [target.location for target in definition.targets] == ["s3://lake/batches/orders/"]
    assert definition.prefix == "batches_"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"SchemaChangePolicy": {"UpdateBehavior": "LOG", "DeleteBehavior": "LOG"}}, "UpdateBehavior is LOG"),
        ({"SchemaChangePolicy": {}}, "DeleteBehavior is DEPRECATE_IN_DATABASE"),
        ({"RecrawlPolicy": {"RecrawlBehavior": "CRAWL_EVENT_MODE"}}, "RecrawlBehavior is CRAWL_EVENT_MODE"),
        ({"Configuration": ""}, "TableGroupingPolicy.*AddOrUpdateBehavior"),
        ({"Configuration": "x"}, "not JSON"),
        ({"Targets": {"S3Targets": [], "JdbcTargets": [{}]}}, "JdbcTargets"),
        ({"Targets": {"S3Targets": [{"Path": "s3://a/", "Exclusions": ["**.tmp"]}]}}, "Exclusions"),
        ({"Targets": {"S3Targets": [{"Path": "s3://a/", "SampleSize": 3}]}}, "SampleSize"),
        ({"Targets": {"S3Targets": [{"Path": "lake/events"}]}}, "'lake/events' is not an S3 address"),
    ],
)
def test_what_is_not_supported_is_reported(
    ours: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Definition.parse(ours | change)


def test_glues_default_of_an_update_is_supported(ours: dict[str, Any]) -> None:
    assert json.loads(ours["Configuration"])["Grouping"]
    Definition.parse({**ours, "SchemaChangePolicy": {"DeleteBehavior": "LOG"}, "RecrawlPolicy": {}})
