"""The local crawler and Athena over batch objects, as the consumer writes them."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from lakefeed_analytics.crawl import wait_for_crawl
from lakefeed_analytics.layouts import both_layouts
from lakefeed_analytics.parts import Parts, connect
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common.lake.keys import batch_key, event_key
from lakefeed_common.lake.lines import to_line
from lakefeed_common.lake.records import Partition, Record
from tests.helpers.athena import failure, rows, run

if TYPE_CHECKING:
    from mypy_boto3_athena import AthenaClient
    from mypy_boto3_s3 import S3Client

_FIRST_DAY, _DAY_MS = 1_767_225_600_000, 86_400_000
_TOPIC = "Orders.eu"


def record(offset: int, *, partition: int = 0, day: int = 0, value: bytes = b'{"n":1}') -> Record:
    key, headers = (b"k%d" % offset, (("source", b"x"),)) if offset % 2 else (None, ())
    return Record(Partition(_TOPIC, partition), offset, _FIRST_DAY + day * _DAY_MS, key, value, headers)


def put_batch(s3: S3Client, bucket: str, *records: Record) -> None:
    body = b"".join(gzip.compress(to_line(each, each.value or b"")) for each in records)
    s3.put_object(Bucket=bucket, Key=batch_key("batches", records[0], records[0].offset), Body=body)


def put_event(s3: S3Client, bucket: str, event: Record) -> None:
    s3.put_object(Bucket=bucket, Key=event_key("events", event), Body=event.value or b"")


def crawl(parts: Parts) -> None:
    for ensure in parts.ensure.values():
        ensure()
    parts.crawler.start()
    wait_for_crawl(parts.crawler, 60)


@pytest.fixture
def settings(aws: str, bucket: str) -> AnalyticsSettings:
    return AnalyticsSettings(bucket=bucket, topic=_TOPIC, layout="batches", glue_database="lake")


def test_batches_are_crawled_and_queried(
    settings: AnalyticsSettings, s3: S3Client, athena: AthenaClient, bucket: str
) -> None:
    put_batch(s3, bucket, record(0, value=b'{"N":1, "s":"a"} '), record(1, value=b"{}"), record(3))
    put_batch(s3, bucket, record(5, partition=1, day=1, value=b'{"n":2.5,"s":null}'))
    with connect(settings) as parts:
        crawl(parts)
        table = parts.catalogue.table("batches_orders_eu")
        days = [each.values for each in parts.catalogue.partitions(table.name)]
    kinds = {column.name: column.type for column in table.columns}
    kafka = kinds.pop("_kafka")
    assert kinds == {"n": "double", "s": "string", "dt": "string"}
    assert kafka.startswith("struct<p:int,o:int,t:bigint,")
    assert days == [("2026-01-01",), ("2026-01-02",)]

    query = "SELECT n, s, _kafka.p, _kafka.o, _kafka.k, dt FROM batches_orders_eu ORDER BY _kafka.o"
    assert rows(athena, bucket, query) == [
        ["1.0", "a", "0", "0", None, "2026-01-01"],
        [None, None, "0", "1", "azE=", "2026-01-01"],
        ["1.0", None, "0", "3", "azM=", "2026-01-01"],
        ["2.5", None, "1", "5", "azU=", "2026-01-02"],
    ]
    whole = "SELECT _kafka FROM batches_orders_eu WHERE _kafka.o = 1"
    [[shown]] = rows(athena, bucket, whole)
    for part in ("p=0", "o=1", "t=1767225600000", "k=azE=", "h=[[source, eA==]]"):
        assert part in (shown or "")
    # More of a known day is there without a crawl, and a damaged object fails as in Athena.
    put_batch(s3, bucket, record(7))
    assert rows(athena, bucket, "SELECT count(*) FROM batches_orders_eu") == [["5"]]
    s3.put_object(Bucket=bucket, Key=f"batches/{_TOPIC}/dt=2026-01-01/x.json.gz", Body=b"{}")
    assert "damaged" in failure(athena, bucket, "SELECT count(*) FROM batches_orders_eu")


def test_a_changed_layout_keeps_the_other_layouts_table(
    settings: AnalyticsSettings, s3: S3Client, athena: AthenaClient, bucket: str
) -> None:
    put_event(s3, bucket, record(0))
    with connect(settings.model_copy(update={"layout": "objects"})) as parts:
        crawl(parts)
    put_batch(s3, bucket, record(1), record(2))
    with connect(settings) as parts:
        crawl(parts)
        assert [table.name for table in parts.catalogue.tables()] == ["batches_orders_eu", "orders_eu"]
    put_event(s3, bucket, record(3))
    assert rows(athena, bucket, "SELECT count(*) FROM orders_eu") == [["2"]]
    assert rows(athena, bucket, "SELECT count(*) FROM batches_orders_eu") == [["2"]]

    # One view over both, with each event's place: an event in both layouts would be seen.
    with connect(settings) as parts:
        objects, batches = map(parts.catalogue.table, settings.raw_tables(_TOPIC))
    statement = both_layouts("orders_all", objects, batches)
    for _ in range(2):
        status, _ = run(athena, bucket, statement)
        assert status["State"] == "SUCCEEDED", status
    merged = "SELECT kafka_partition, kafka_offset, n, dt FROM orders_all ORDER BY kafka_offset"
    assert rows(athena, bucket, merged) == [["0", str(offset), "1", "2026-01-01"] for offset in range(4)]
    by_day = 'WITH d AS (SELECT dt, count(*) AS c FROM "orders_all" GROUP BY dt) SELECT c FROM d'
    assert rows(athena, bucket, by_day) == [["4"]]
    assert "already exists" in failure(athena, bucket, "CREATE VIEW orders_eu AS SELECT 1 AS a")
    assert run(athena, bucket, "DROP VIEW orders_all")[0]["State"] == "SUCCEEDED"
    assert "orders_all" in failure(athena, bucket, merged)
