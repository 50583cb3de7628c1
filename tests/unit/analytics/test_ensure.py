"""What counts as a difference from the settings, and what does not."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from botocore.exceptions import ClientError

from lakefeed_analytics.ensure import Ensurer, crawler_definition
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common.errors import MissingError, RefusedError
from tests.helpers.analytics.fakes import Clock
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


def test_a_missing_results_bucket_is_reported() -> None:
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


@pytest.mark.parametrize(("before", "after"), [("objects", "batches"), ("batches", "objects")])
def test_a_change_of_the_layout_is_no_other_service(
    before: Literal["objects", "batches"], after: Literal["objects", "batches"]
) -> None:
    present = crawler(AnalyticsSettings(topic="prices", layout=before))
    settings = AnalyticsSettings(topic="prices", layout=after)
    steps, client = ensurer(settings, get_database={}, get_crawler=present, update_crawler={})
    assert [str(change) for change in steps.glue()] == ["updated crawler lakefeed: Targets, TablePrefix"]
    _, changed = client.asked[-1]
    prefix = "batches" if after == "batches" else "events"
    assert changed["Targets"] == {"S3Targets": [{"Path": f"s3://lakefeed/{prefix}/prices/"}]}
    assert changed["TablePrefix"] == ("batches_" if after == "batches" else "")


def test_a_missing_bucket_is_reported_and_not_created_by_default() -> None:
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


def test_a_bucket_of_another_account_is_refused() -> None:
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


def other_targets(*paths: str, **others: Any) -> dict[str, Any]:
    return {"Targets": {"S3Targets": [{"Path": path, "Exclusions": []} for path in paths], **others}}


@pytest.mark.parametrize(
    ("present", "said"),
    [
        (other_targets("s3://lakefeed/events/orders/"), "crawls s3://lakefeed/events/orders/ but none of"),
        (
            other_targets("s3://elsewhere/events/prices", "s3://a/b/"),
            "crawls s3://elsewhere/events/prices/, ",
        ),
        (other_targets(JdbcTargets=[{"ConnectionName": "db", "Path": "x/%"}]), "crawls 1 JdbcTargets but"),
        # Not above our folder, though the text begins alike.
        (other_targets("s3://lakefeed/events/price"), "crawls s3://lakefeed/events/price/ but"),
    ],
    ids=["another topic", "another bucket", "a database", "a name that begins alike"],
)
def test_the_crawler_of_another_service_is_not_changed(present: dict[str, Any], said: str) -> None:
    settings = AnalyticsSettings(topic="prices")
    answers = {"get_database": {}, "get_crawler": crawler(settings, **present), "update_crawler": {}}
    steps, client = ensurer(settings, **answers)
    with pytest.raises(RefusedError, match=r"LAKEFEED_CRAWLER .* --replace-targets") as raised:
        steps.glue()
    assert said in str(raised.value)
    assert [operation for operation, _ in client.asked] == ["get_database", "get_crawler"]
    # A user can confirm that it belongs to this service.
    replacing = Ensurer(client, client, client, settings, replace_targets=True)  # type: ignore[arg-type]
    assert [str(change) for change in replacing.glue()] == ["updated crawler lakefeed: Targets"]


@pytest.mark.parametrize("before", ["prices,orders", "prices", "other,prices"])
def test_topics_that_come_or_go_change_the_targets(before: str) -> None:
    settings = AnalyticsSettings(topics="prices,trades")
    present = {"Targets": crawler_definition(AnalyticsSettings(topics=before))["Targets"]}
    steps, _ = ensurer(settings, get_database={}, get_crawler=crawler(settings, **present), update_crawler={})
    assert [str(change) for change in steps.glue()] == ["updated crawler lakefeed: Targets"]


def test_a_crawler_that_another_service_reverts_is_reported() -> None:
    settings, clock = AnalyticsSettings(topics="a,b"), Clock()
    client = Client(get_database={}, get_crawler=crawler(settings, Role="another"), update_crawler={})
    steps = Ensurer(client, client, client, settings, clock=clock)  # type: ignore[arg-type]
    for _ in range(3):
        assert steps.glue()
        clock.now += 30
    with pytest.raises(RefusedError, match=r"reverted each time \(Role\): .* LAKEFEED_CRAWLER"):
        steps.glue()
    updates = [operation for operation, _ in client.asked].count("update_crawler")
    assert updates == 3
    # Once the other service uses another name, updates succeed again.
    client.answers["get_crawler"] = crawler(settings)
    assert steps.glue() == []
    client.answers["get_crawler"] = crawler(settings, Role="another")
    clock.now += 600
    assert steps.glue()


def test_a_workgroup_that_another_service_reverts_is_reported() -> None:
    clock = Clock()
    group = {"Configuration": {"ResultConfiguration": {"OutputLocation": "s3://another/"}}}
    client = Client(get_work_group={"WorkGroup": group}, update_work_group={})
    steps = Ensurer(client, client, client, AnalyticsSettings(), clock=clock)  # type: ignore[arg-type]
    for _ in range(3):
        assert steps.athena()
        clock.now += 30
    with pytest.raises(RefusedError, match="LAKEFEED_WORKGROUP"):
        steps.athena()
