"""Crawlers of the local AWS create the tables that Glue would create, and report how it went."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.local_s3 import put_all
from tests.helpers.waiting import wait_for

if TYPE_CHECKING:
    from mypy_boto3_athena import AthenaClient
    from mypy_boto3_glue import GlueClient
    from mypy_boto3_s3 import S3Client

ONE_TABLE = json.dumps(
    {
        "Version": 1.0,
        "Grouping": {"TableGroupingPolicy": "CombineCompatibleSchemas"},
        "CrawlerOutput": {"Partitions": {"AddOrUpdateBehavior": "InheritFromTable"}},
    }
)


class Lake:
    """A bucket with events, a database and one crawler over them."""

    def __init__(self, s3: S3Client, glue: GlueClient, bucket: str) -> None:
        self.s3, self.glue, self.bucket = s3, glue, bucket
        credentials: Any = s3._request_signer._credentials  # type: ignore[attr-defined]
        self._account = credentials.access_key
        glue.create_database(DatabaseInput={"Name": "lake"})

    def put(self, key: str, *documents: Any) -> None:
        body = "\n".join(json.dumps(document) for document in documents)
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body.encode())

    def put_all(self, keys: Iterable[str]) -> None:
        put_all(self.s3.meta.endpoint_url, self._account, self.bucket, keys)

    def crawler(self, path: str = "events/orders/", **options: Any) -> None:
        target = {"Path": f"s3://{self.bucket}/{path}", **options.pop("Target", {})}
        given = {
            "Configuration": ONE_TABLE,
            "SchemaChangePolicy": {"UpdateBehavior": "UPDATE_IN_DATABASE", "DeleteBehavior": "LOG"},
            "RecrawlPolicy": {"RecrawlBehavior": "CRAWL_EVERYTHING"},
            **options,
        }
        targets: Any = {"S3Targets": [target]}
        self.glue.create_crawler(Name="c", Role="lakefeed", DatabaseName="lake", Targets=targets, **given)

    def crawl(self, timeout: float = 30) -> dict[str, Any]:
        """Start the crawler, wait until it is ready, and return its last crawl."""
        self.glue.start_crawler(Name="c")
        wait_for(lambda: self.state() == "READY", timeout, "the crawler is not READY", every=0.1)
        return dict(self.glue.get_crawler(Name="c")["Crawler"]["LastCrawl"])

    def state(self) -> str:
        return self.glue.get_crawler(Name="c")["Crawler"]["State"]

    def table(self, name: str = "orders") -> dict[str, Any]:
        return dict(self.glue.get_table(DatabaseName="lake", Name=name)["Table"])

    def tables(self) -> list[str]:
        return sorted(table["Name"] for table in self.glue.get_tables(DatabaseName="lake")["TableList"])

    def columns(self, name: str = "orders") -> dict[str, str]:
        return {column["Name"]: column["Type"] for column in self.table(name)["StorageDescriptor"]["Columns"]}

    def partitions(self, name: str = "orders") -> dict[str, dict[str, Any]]:
        found = self.glue.get_partitions(DatabaseName="lake", TableName=name)["Partitions"]
        return {"/".join(partition["Values"]): dict(partition) for partition in found}


@pytest.fixture
def lake(s3: S3Client, glue: GlueClient, bucket: str) -> Lake:
    return Lake(s3, glue, bucket)


def test_a_table_with_a_partition_for_each_day(lake: Lake, athena: AthenaClient) -> None:
    lake.put("events/orders/dt=2026-01-01/00000-1.json", {"id": 1, "Price": 2.5, "paid": True, "note": None})
    lake.put("events/orders/dt=2026-01-02/00000-2.json", {"id": 2, "Price": 3, "paid": False, "note": None})
    lake.put("dead-letters/orders/dt=2026-01-02/00000-3.json", {"reason": "no"})
    lake.crawler()

    assert lake.crawl()["Status"] == "SUCCEEDED"

    table = lake.table()
    assert lake.tables() == ["orders"]
    assert lake.columns() == {"id": "int", "price": "double", "paid": "boolean", "note": "string"}
    assert [(key["Name"], key["Type"]) for key in table["PartitionKeys"]] == [("dt", "string")]
    storage = table["StorageDescriptor"]
    assert storage["Location"] == f"s3://{lake.bucket}/events/orders/"
    assert storage["SerdeInfo"]["SerializationLibrary"] == "org.openx.data.jsonserde.JsonSerDe"
    parameters = table["Parameters"]
    assert parameters["UPDATED_BY_CRAWLER"] == "c"
    assert (parameters["classification"], parameters["objectCount"], parameters["recordCount"]) == (
        "json",
        "2",
        "2",
    )
    assert {values: part["StorageDescriptor"]["Location"] for values, part in lake.partitions().items()} == {
        "2026-01-01": f"s3://{lake.bucket}/events/orders/dt=2026-01-01/",
        "2026-01-02": f"s3://{lake.bucket}/events/orders/dt=2026-01-02/",
    }
    assert query(athena, lake.bucket, "SELECT id, dt FROM orders WHERE dt = '2026-01-02'") == [
        ["2", "2026-01-02"]
    ]


def query(athena: AthenaClient, bucket: str, sql: str) -> list[list[str]]:
    started = athena.start_query_execution(
        QueryString=sql,
        QueryExecutionContext={"Database": "lake"},
        ResultConfiguration={"OutputLocation": f"s3://{bucket}/results/"},
    )["QueryExecutionId"]

    def status() -> Any:
        found = athena.get_query_execution(QueryExecutionId=started)["QueryExecution"]["Status"]
        return found if found["State"] in ("SUCCEEDED", "FAILED") else None

    ended = wait_for(status)
    assert ended["State"] == "SUCCEEDED", ended
    rows = athena.get_query_results(QueryExecutionId=started)["ResultSet"]["Rows"][1:]
    return [[cell["VarCharValue"] for cell in row["Data"]] for row in rows]


def test_a_schema_that_changes_between_days_widens(lake: Lake) -> None:
    lake.put(
        "events/orders/dt=2026-01-01/1.json", {"id": 1, "amount": 1, "customer": {"name": "A"}, "tags": []}
    )
    lake.crawler()
    lake.crawl()
    lake.put(
        "events/orders/dt=2026-01-02/2.json",
        {"id": 2**40, "amount": "n/a", "customer": {"name": "B", "vip": True}, "tags": ["x"], "new": 1.5},
    )

    assert lake.crawl()["Status"] == "SUCCEEDED"

    columns = {
        "id": "bigint",
        "amount": "string",
        "customer": "struct<name:string,vip:boolean>",
        "tags": "array<string>",
        "new": "double",
    }
    assert lake.columns() == columns
    for values, part in lake.partitions().items():
        inherited = {column["Name"]: column["Type"] for column in part["StorageDescriptor"]["Columns"]}
        assert inherited == columns, f"the partition {values} does not follow its table"
    metrics = lake.glue.get_crawler_metrics(CrawlerNameList=["c"])["CrawlerMetricsList"][0]
    assert (metrics["TablesCreated"], metrics["TablesUpdated"]) == (0, 1)


def test_a_type_does_not_narrow_when_the_sample_shows_less(lake: Lake) -> None:
    lake.put("events/orders/dt=2026-01-01/0.json", {"price": 1.5, "count": 2**40, "note": 7})
    lake.crawler()
    lake.crawl()
    # A longer day may have objects with the earlier values that the sample leaves out.
    lake.put("events/orders/dt=2026-01-01/0.json", {"price": 2, "count": 3, "note": None})
    lake.crawl()
    columns = {each["Name"]: each["Type"] for each in lake.table()["StorageDescriptor"]["Columns"]}
    assert columns == {"price": "double", "count": "bigint", "note": "int"}


def test_an_empty_target_has_no_table(lake: Lake) -> None:
    lake.crawler()

    assert lake.crawl()["Status"] == "SUCCEEDED"
    assert lake.tables() == []


def test_a_folder_that_is_gone_keeps_its_partition(lake: Lake) -> None:
    lake.put("events/orders/dt=2026-01-01/1.json", {"id": 1})
    lake.put("events/orders/dt=2026-01-02/2.json", {"id": 2})
    lake.crawler()
    lake.crawl()
    lake.s3.delete_object(Bucket=lake.bucket, Key="events/orders/dt=2026-01-01/1.json")

    assert lake.crawl()["Status"] == "SUCCEEDED"

    assert set(lake.partitions()) == {"2026-01-01", "2026-01-02"}


def test_hidden_objects_are_not_crawled(lake: Lake) -> None:
    lake.put("events/orders/dt=2026-01-01/1.json", {"id": 1})
    lake.put("events/orders/_spark/1.json", {"hidden": 1})
    lake.crawler()

    lake.crawl()

    assert lake.columns() == {"id": "int"}
    assert set(lake.partitions()) == {"2026-01-01"}


def test_an_unsupported_policy_fails_the_crawl(lake: Lake) -> None:
    lake.put("events/orders/dt=2026-01-01/1.json", {"id": 1})
    lake.crawler(RecrawlPolicy={"RecrawlBehavior": "CRAWL_NEW_FOLDERS_ONLY"})

    last = lake.crawl()

    assert last["Status"] == "FAILED"
    assert "RecrawlBehavior is CRAWL_NEW_FOLDERS_ONLY" in last["ErrorMessage"]
    assert lake.tables() == []


def test_two_folders_of_the_same_name_are_two_tables(lake: Lake) -> None:
    lake.put("a/orders/1.json", {"id": 1})
    lake.put("b/orders/1.json", {"id": "x"})
    lake.crawler("a/orders/")
    lake.crawl()
    lake.glue.update_crawler(Name="c", Targets={"S3Targets": [{"Path": f"s3://{lake.bucket}/b/orders"}]})

    lake.crawl()

    assert len(lake.tables()) == 2
    assert lake.columns() == {"id": "int"}


def test_a_missing_bucket_fails_the_crawl(lake: Lake) -> None:
    lake.crawler(Target={"Path": "s3://there-is-no-such-bucket/x/"})

    last = lake.crawl()

    assert last["Status"] == "FAILED"
    assert "NoSuchBucket" in last["ErrorMessage"]
    crawl = lake.glue.list_crawls(CrawlerName="c")["Crawls"][0]
    assert (crawl["State"], crawl["ErrorMessage"]) == ("FAILED", last["ErrorMessage"])


def test_a_missing_database_fails_the_crawl(lake: Lake) -> None:
    lake.put("events/orders/1.json", {"id": 1})
    lake.crawler()
    lake.glue.delete_database(Name="lake")

    last = lake.crawl()

    assert last["Status"] == "FAILED"
    assert "lake" in last["ErrorMessage"]


def test_a_month_of_objects_in_several_pages(lake: Lake) -> None:
    days = [f"2026-01-{day:02}" for day in range(1, 31)]
    names = {f"events/orders/dt={day}/{number:020}.json" for day in days for number in range(34)}
    # More than a page of 1,000 keys.
    assert len(names) > 1000
    lake.put_all(names)
    lake.crawler()

    assert lake.crawl(timeout=120)["Status"] == "SUCCEEDED"

    assert set(lake.partitions()) == set(days)
    parameters = lake.table()["Parameters"]
    assert (parameters["objectCount"], parameters["recordCount"]) == (str(len(names)), str(len(names)))
    summary = json.loads(lake.glue.list_crawls(CrawlerName="c")["Crawls"][0]["Summary"])
    assert summary == {
        "TABLE": {"ADD": {"Details": {"names": ["orders"]}, "Count": 1}},
        "PARTITION": {"ADD": {"Count": 30}},
    }
