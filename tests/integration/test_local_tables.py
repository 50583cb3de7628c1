"""The local Athena reads a table like Athena, by the columns and partitions of the catalogue."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tests.helpers.athena import rows
from tests.helpers.waiting import wait_for

if TYPE_CHECKING:
    from mypy_boto3_athena import AthenaClient
    from mypy_boto3_glue import GlueClient
    from mypy_boto3_s3 import S3Client


def test_wide_sparse_deep_and_unusual_events(
    s3: S3Client, glue: GlueClient, athena: AthenaClient, bucket: str
) -> None:
    wide = {f"c{number}": number for number in range(300)}
    deep = '{"x":' + '{"a":' * 480 + "1" + "}" * 480 + "}"
    objects = {
        "wide/dt=2026-01-01/0": json.dumps(wide),
        # Keys that most rows lack.
        **{f"sparse/dt=2026-01-01/{n}": json.dumps({f"k{n}": n, "Id": n}) for n in range(250)},
        "deep/dt=2026-01-01/0": deep,
        # Columns of other scripts, without a name, and with the partition key's name, as the producer names
        # them; and an object that the consumer would not have stored.
        "named/dt=2026-01-01/0": json.dumps({"番号": 7, "植物名": "桜", "column_3": 1, "dt_2": "1743-11-01"}),
        "named/dt=2026-01-02/0": json.dumps({"番号": 8, "DT": "1743-11-02"}),
        "bare/dt=2026-01-01/0": "{}",
        "spaced/dt=2026-01-01/0": '{" sp ": 5}',
        # In no partition, and empty.
        "sparse/README.txt": "Not JSON.",
        "sparse/dt=2026-01-01/empty": "",
        "sparse/dt=2026-01-01/": "",
    }
    for key, body in objects.items():
        s3.put_object(Bucket=bucket, Key=f"events/{key}", Body=body.encode())
    glue.create_database(DatabaseInput={"Name": "lake"})
    topics = ("wide", "sparse", "deep", "named", "bare", "spaced")
    glue.create_crawler(
        Name="c",
        Role="lakefeed",
        DatabaseName="lake",
        Targets={"S3Targets": [{"Path": f"s3://{bucket}/events/{topic}/"} for topic in topics]},
        SchemaChangePolicy={"DeleteBehavior": "LOG"},
        Configuration=json.dumps(
            {
                "Version": 1.0,
                "Grouping": {"TableGroupingPolicy": "CombineCompatibleSchemas"},
                "CrawlerOutput": {"Partitions": {"AddOrUpdateBehavior": "InheritFromTable"}},
            }
        ),
    )
    glue.start_crawler(Name="c")
    wait_for(lambda: glue.get_crawler(Name="c")["Crawler"]["State"] == "READY", 60, "the crawl does not end")
    last = glue.get_crawler(Name="c")["Crawler"]["LastCrawl"]
    assert last["Status"] == "SUCCEEDED", last
    found = {table["Name"] for table in glue.get_tables(DatabaseName="lake")["TableList"]}
    assert found == set(topics)

    [row] = rows(athena, bucket, "SELECT * FROM wide")
    assert row == [*map(str, wide.values()), "2026-01-01"]
    counted = "SELECT count(*), count(id), max(id), min(dt) FROM sparse"
    assert rows(athena, bucket, counted) == [["250", "250", "249", "2026-01-01"]]
    assert len(rows(athena, bucket, "SELECT x, dt FROM deep")) == 1
    named = 'SELECT "番号", "植物名", column_3, dt_2, dt FROM named ORDER BY dt'
    assert rows(athena, bucket, named) == [
        ["7", "桜", "1", "1743-11-01", "2026-01-01"],
        ["8", None, None, None, "2026-01-02"],
    ]
    assert rows(athena, bucket, "SELECT * FROM bare") == [["2026-01-01"]]
    assert rows(athena, bucket, 'SELECT " sp ", dt FROM spaced') == [["5", "2026-01-01"]]
    [[now]] = rows(athena, bucket, "SELECT current_timestamp")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC", now or "")
