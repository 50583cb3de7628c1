"""Crawlers of the local AWS make the tables that Glue would make, and say truthfully how it went."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import pytest

from lakefeed_local.aws import LocalAws
from lakefeed_local.crawl_service import CrawlService
from lakefeed_local.crawler import Finder
from lakefeed_local.layout import Stored
from lakefeed_local.schema import Sample
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
        """Store one small document under each key, without what boto3 costs."""
        with closing(HTTPConnection(urlsplit(self.s3.meta.endpoint_url).netloc)) as http:
            for key in keys:
                credential = f"Credential={self._account}/20260101/us-east-1/s3/aws4_request"
                headers = {"Authorization": f"AWS4-HMAC-SHA256 {credential}, SignedHeaders=, Signature="}
                http.request("PUT", f"/{self.bucket}/{key}", b'{"id": 1}', headers)
                with http.getresponse() as answer:
                    answer.read()
                    assert answer.status == 200

    def crawler(self, path: str = "events/orders/", **options: Any) -> None:
        given = {"Configuration": ONE_TABLE, **options}
        targets: Any = {"S3Targets": [{"Path": f"s3://{self.bucket}/{path}", **given.pop("Target", {})}]}
        self.glue.create_crawler(Name="c", Role="lakefeed", DatabaseName="lake", Targets=targets, **given)

    def crawl(self, timeout: float = 30) -> dict[str, Any]:
        """Start the crawler, wait until it is ready, and return what it says about the crawl."""
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


def test_a_table_with_a_partition_a_day(lake: Lake, athena: AthenaClient) -> None:
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
        told = athena.get_query_execution(QueryExecutionId=started)["QueryExecution"]["Status"]
        return told if told["State"] in ("SUCCEEDED", "FAILED") else None

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
    # Beside unread objects with the values from before, such as those of a longer day.
    lake.put("events/orders/dt=2026-01-01/0.json", {"price": 2, "count": 3, "note": None})
    lake.crawl()
    columns = {each["Name"]: each["Type"] for each in lake.table()["StorageDescriptor"]["Columns"]}
    assert columns == {"price": "double", "count": "bigint", "note": "int"}


def test_an_empty_target_makes_no_table(lake: Lake) -> None:
    lake.crawler()

    assert lake.crawl()["Status"] == "SUCCEEDED"
    assert lake.tables() == []


def test_new_folders_only_leaves_known_ones_and_the_table_alone(lake: Lake) -> None:
    log_only = {"UpdateBehavior": "LOG", "DeleteBehavior": "LOG"}
    lake.put("events/orders/dt=2026-01-01/1.json", {"id": 1})
    lake.crawler(SchemaChangePolicy=log_only, RecrawlPolicy={"RecrawlBehavior": "CRAWL_NEW_FOLDERS_ONLY"})
    lake.crawl()
    lake.put("events/orders/dt=2026-01-02/2.json", {"id": 2, "new": 1})

    assert lake.crawl()["Status"] == "SUCCEEDED"

    assert set(lake.partitions()) == {"2026-01-01", "2026-01-02"}
    assert lake.columns() == {"id": "int"}


def test_new_folders_only_wants_its_policy(lake: Lake) -> None:
    with pytest.raises(lake.glue.exceptions.InvalidInputException, match="LOG"):
        lake.crawler(RecrawlPolicy={"RecrawlBehavior": "CRAWL_NEW_FOLDERS_ONLY"})


@pytest.mark.parametrize(
    ("behavior", "left"), [("DELETE_FROM_DATABASE", {"2026-01-02"}), ("LOG", {"2026-01-01", "2026-01-02"})]
)
def test_a_folder_that_is_gone(lake: Lake, behavior: str, left: set[str]) -> None:
    lake.put("events/orders/dt=2026-01-01/1.json", {"id": 1})
    lake.put("events/orders/dt=2026-01-02/2.json", {"id": 2})
    lake.crawler(SchemaChangePolicy={"UpdateBehavior": "UPDATE_IN_DATABASE", "DeleteBehavior": behavior})
    lake.crawl()
    lake.s3.delete_object(Bucket=lake.bucket, Key="events/orders/dt=2026-01-01/1.json")

    lake.crawl()

    assert set(lake.partitions()) == left


def test_a_table_that_is_gone_is_deprecated(lake: Lake) -> None:
    lake.put("events/orders/dt=2026-01-01/1.json", {"id": 1})
    lake.crawler()
    lake.crawl()
    lake.s3.delete_object(Bucket=lake.bucket, Key="events/orders/dt=2026-01-01/1.json")

    lake.crawl()

    assert "DEPRECATED_BY_CRAWLER" in lake.table()["Parameters"]


def test_exclusions_and_hidden_objects_are_not_crawled(lake: Lake) -> None:
    lake.put("events/orders/dt=2026-01-01/1.json", {"id": 1})
    lake.put("events/orders/dt=2026-01-02/1.tmp", {"other": 1})
    lake.put("events/orders/_spark/1.json", {"hidden": 1})
    lake.crawler(Target={"Exclusions": ["**.tmp"]})

    lake.crawl()

    assert lake.columns() == {"id": "int"}
    assert set(lake.partitions()) == {"2026-01-01"}


def test_folders_that_differ_are_tables_of_their_own_unless_combined(lake: Lake) -> None:
    lake.put("events/orders/1.json", {"id": 1, "price": 2})
    lake.put("events/people/1.json", {"name": "A", "born": 1950})
    lake.crawler("events/", Configuration="", TablePrefix="raw_")

    lake.crawl()

    assert lake.tables() == ["raw_orders", "raw_people"]
    assert lake.columns("raw_people") == {"name": "string", "born": "int"}


def test_two_folders_of_one_name_are_two_tables(lake: Lake) -> None:
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


# ---- an AWS of the test's own, whose crawl service comes when the test wants it ------------


@pytest.fixture
def idle(own_aws: LocalAws, account: str) -> Iterator[tuple[str, Lake]]:
    """The address of a local AWS without a crawl service, and a lake in an account of it."""
    session = boto3.Session(account, "test", region_name="us-east-1")
    with ExitStack() as clients:
        s3 = clients.enter_context(closing(session.client("s3", endpoint_url=own_aws.endpoint_url)))
        glue = clients.enter_context(closing(session.client("glue", endpoint_url=own_aws.endpoint_url)))
        bucket = f"idle-{account}"
        s3.create_bucket(Bucket=bucket)
        yield own_aws.endpoint_url, Lake(s3, glue, bucket)


def test_a_crawler_runs_until_its_crawl_has_ended(idle: tuple[str, Lake]) -> None:
    address, lake = idle
    lake.put("events/orders/1.json", {"id": 1})
    lake.crawler()
    lake.glue.start_crawler(Name="c")

    # Longer than MiniStack's own timer, and shorter than the time that an absent service is given.
    with pytest.raises(AssertionError):
        wait_for(lambda: lake.state() != "RUNNING", timeout=5.5, every=0.5)
    with pytest.raises(lake.glue.exceptions.CrawlerRunningException):
        lake.glue.start_crawler(Name="c")
    with CrawlService(address):
        wait_for(lambda: lake.state() == "READY", 30)

    assert lake.columns() == {"id": "int"}


def test_without_a_crawl_service_the_crawl_fails_and_says_so(idle: tuple[str, Lake]) -> None:
    _, lake = idle
    lake.crawler()

    last = lake.crawl()

    assert last["Status"] == "FAILED"
    assert "lakefeed-local crawler" in last["ErrorMessage"]


def test_a_stopped_crawl_ends_cancelled(idle: tuple[str, Lake], monkeypatch: pytest.MonkeyPatch) -> None:
    address, lake = idle
    lake.put("events/orders/dt=2026-01-01/1.json", {"id": 1})
    lake.crawler()
    begun, stopped = threading.Event(), threading.Event()
    read = Finder._read

    def held(self: Finder, bucket: str, stored: Stored) -> tuple[Sample, int]:
        begun.set()
        assert stopped.wait(60)
        return read(self, bucket, stored)

    monkeypatch.setattr(Finder, "_read", held)
    # Each step asks whether to go on.
    monkeypatch.setattr("lakefeed_local.crawl_service._BEAT_SECONDS", 0)
    with CrawlService(address) as service:
        lake.glue.start_crawler(Name="c")
        assert begun.wait(60), "the crawl has not begun"
        assert service.metrics.registry.get_sample_value("lakefeed_local_crawls_running") == 1
        lake.glue.stop_crawler(Name="c")
        assert lake.state() == "STOPPING"
        stopped.set()
        wait_for(lambda: lake.state() == "READY", 30)

    assert lake.glue.get_crawler(Name="c")["Crawler"]["LastCrawl"]["Status"] == "CANCELLED"
    assert lake.glue.list_crawls(CrawlerName="c")["Crawls"][0]["State"] == "STOPPED"
    assert lake.tables() == []
