"""What counts as a difference from the settings, and what does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lakefeed_analytics.ensure import Ensurer, crawler_definition
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common.errors import MissingError, RefusedError
from tests.helpers.analytics.scripted_client import ScriptedClient as Client
from tests.helpers.analytics.scripted_client import error

NOT_FOUND = ClientError({"Error": {"Code": "404", "Message": "Not Found"}}, "HeadBucket")


def ensurer(settings: AnalyticsSettings, **answers: Any) -> tuple[Ensurer, Client]:
    client = Client(**answers)
    return Ensurer(client, client, client, settings), client  # type: ignore[arg-type]


def crawler(settings: AnalyticsSettings, **changes: Any) -> dict[str, Any]:
    """GetCrawler's answer in Glue's own form."""
    wanted = crawler_definition(settings)
    configuration = json.dumps(json.loads(wanted["Configuration"]), indent=1, sort_keys=True)
    raw = {
        **wanted,
        "Name": settings.crawler,
        "State": "READY",
        "Configuration": configuration,
        "Targets": {
            "S3Targets": [
                {"Path": each["Path"], "Exclusions": []} for each in wanted["Targets"]["S3Targets"]
            ],
            "JdbcTargets": [],
        },
        **changes,
    }
    if not wanted["Schedule"] and "Schedule" not in changes:
        del raw["Schedule"]
    return {"Crawler": raw}


def test_glues_own_form_of_the_same_crawler_is_no_difference() -> None:
    settings = AnalyticsSettings(crawler_role="arn:aws:iam::123456789012:role/service-role/crawls")
    steps, client = ensurer(
        settings, get_database={}, get_crawler=crawler(settings, Role="service-role/crawls")
    )
    assert steps.glue() == []
    assert [operation for operation, _ in client.asked] == ["get_database", "get_crawler"]


@pytest.mark.parametrize(
    ("present", "field"),
    [
        ({"Role": "another"}, "Role"),
        ({"DatabaseName": "another"}, "DatabaseName"),
        ({"Targets": {"S3Targets": [{"Path": "s3://lakefeed/events/"}]}}, "Targets"),
        ({"Schedule": {"ScheduleExpression": "cron(0 1 * * ? *)", "State": "SCHEDULED"}}, "Schedule"),
        ({"Configuration": ""}, "Configuration"),
        ({"RecrawlPolicy": {"RecrawlBehavior": "CRAWL_NEW_FOLDERS_ONLY"}}, "RecrawlPolicy"),
        ({"SchemaChangePolicy": {}}, "SchemaChangePolicy"),
    ],
)
def test_only_the_field_that_differs_is_updated(present: dict[str, Any], field: str) -> None:
    settings = AnalyticsSettings()
    steps, client = ensurer(
        settings, get_database={}, get_crawler=crawler(settings, **present), update_crawler={}
    )
    [change] = steps.glue()
    assert str(change) == f"updated crawler lakefeed: {field}"
    assert client.asked[-1] == (
        "update_crawler",
        {"Name": "lakefeed", field: crawler_definition(settings)[field]},
    )


def test_a_running_crawler_is_updated_later() -> None:
    settings = AnalyticsSettings()
    steps, _ = ensurer(
        settings,
        get_database={},
        get_crawler=crawler(settings, Role="another"),
        update_crawler=error("CrawlerRunningException", "it runs"),
    )
    assert steps.glue() == []


def test_what_another_service_made_meanwhile_is_no_error() -> None:
    settings = AnalyticsSettings()
    steps, client = ensurer(
        settings,
        get_database={},
        get_crawler=error("EntityNotFoundException", "none"),
        create_crawler=error("AlreadyExistsException", "Crawler already exists"),
        get_work_group=error("InvalidRequestException", "WorkGroup lakefeed is not found."),
        create_work_group=error("InvalidRequestException", "WorkGroup is already created"),
    )
    assert steps.glue() == []
    assert steps.athena() == []
    assert [operation for operation, _ in client.asked][-1] == "create_work_group"


def test_a_missing_bucket_of_the_results_is_told() -> None:
    settings = AnalyticsSettings(results_location="s3://results/athena/")
    steps, client = ensurer(settings, head_bucket=NOT_FOUND)
    with pytest.raises(MissingError, match=r"there is no bucket results .* LAKEFEED_RESULTS_LOCATION"):
        steps.athena()
    assert client.asked == [("head_bucket", {"Bucket": "results"})]


def test_one_target_a_topic_and_one_table_a_target() -> None:
    definition = crawler_definition(AnalyticsSettings(topics="a,b", bucket="lake", events_prefix="x/y"))
    assert definition["Targets"] == {
        "S3Targets": [{"Path": "s3://lake/x/y/a/"}, {"Path": "s3://lake/x/y/b/"}]
    }
    grouping = json.loads(definition["Configuration"])["Grouping"]
    assert grouping == {"TableGroupingPolicy": "CombineCompatibleSchemas", "TableLevelConfiguration": 4}


def test_a_missing_bucket_is_told_and_not_created_unasked() -> None:
    steps, client = ensurer(AnalyticsSettings(), head_bucket=NOT_FOUND)
    with pytest.raises(MissingError, match="LAKEFEED_CREATE_BUCKET"):
        steps.bucket()
    assert len(client.asked) == 1


@pytest.mark.parametrize(
    ("region", "arguments"),
    [
        ("us-east-1", {}),
        ("eu-west-1", {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}),
    ],
)
def test_a_bucket_is_created_in_its_region(region: str, arguments: dict[str, Any]) -> None:
    settings = AnalyticsSettings(create_bucket=True, aws_region=region)
    steps, client = ensurer(settings, head_bucket=NOT_FOUND, create_bucket={})
    assert [str(change) for change in steps.bucket()] == ["created bucket lakefeed"]
    assert client.asked[-1] == ("create_bucket", {"Bucket": "lakefeed", **arguments})


def test_a_bucket_of_somebody_else_is_refused() -> None:
    forbidden = ClientError({"Error": {"Code": "403", "Message": "Forbidden"}}, "HeadBucket")
    with pytest.raises(RefusedError, match="looking for the bucket lakefeed"):
        ensurer(AnalyticsSettings(create_bucket=True), head_bucket=forbidden)[0].bucket()


def test_a_disabled_workgroup_is_enabled_and_its_own_options_stay() -> None:
    group = {
        "State": "DISABLED",
        "Configuration": {
            "ResultConfiguration": {
                "OutputLocation": "s3://lakefeed/athena-results/",
                "EncryptionConfiguration": {"EncryptionOption": "SSE_S3"},
            },
            "EnforceWorkGroupConfiguration": True,
            "PublishCloudWatchMetricsEnabled": True,
            "BytesScannedCutoffPerQuery": 10_000_000_000,
        },
    }
    steps, client = ensurer(AnalyticsSettings(), get_work_group={"WorkGroup": group}, update_work_group={})
    assert [str(change) for change in steps.athena()] == ["updated workgroup lakefeed: State"]
    assert client.asked[-1] == ("update_work_group", {"WorkGroup": "lakefeed", "State": "ENABLED"})
