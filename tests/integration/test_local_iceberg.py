"""The local Athena reads Iceberg tables that PyIceberg commits to the local Glue."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BooleanType,
    DateType,
    DoubleType,
    IntegerType,
    LongType,
    MapType,
    NestedField,
    StringType,
    TimestamptzType,
)

from tests.helpers.athena import failure, rows

if TYPE_CHECKING:
    from mypy_boto3_athena import AthenaClient
    from mypy_boto3_glue import GlueClient
    from mypy_boto3_s3 import S3Client

_SCHEMA = Schema(
    NestedField(1, "n", IntegerType()),
    NestedField(2, "price", DoubleType()),
    NestedField(3, "ok", BooleanType()),
    NestedField(4, 'a "b" 桜', StringType()),
    NestedField(5, "kafka_timestamp", TimestamptzType()),
    NestedField(6, "d", DateType()),
    NestedField(7, "unfit", MapType(8, StringType(), 9, StringType(), value_required=False)),
    NestedField(10, "dt", StringType()),
)
_BY_DAY = PartitionSpec(PartitionField(10, 1000, IdentityTransform(), "dt"))


@pytest.fixture
def catalog(aws: str, account: str, glue: GlueClient) -> Catalog:
    glue.create_database(DatabaseInput={"Name": "lake"})
    access = {"endpoint": aws, "region": "us-east-1", "access-key-id": account, "secret-access-key": "test"}
    properties = {f"{service}.{name}": value for service in ("glue", "s3") for name, value in access.items()}
    return load_catalog("lake", type="glue", **properties)


@pytest.fixture
def table(catalog: Catalog, bucket: str) -> Table:
    return catalog.create_table(
        "lake.prices", _SCHEMA, location=f"s3://{bucket}/iceberg/prices", partition_spec=_BY_DAY
    )


def append(table: Table, *rows: dict[str, Any]) -> None:
    table.append(pa.Table.from_pylist(list(rows), schema=table.schema().as_arrow()))


def row(n: int, day: str, **more: Any) -> dict[str, Any]:
    return {"n": n, "dt": day, **more}


def test_types_partitions_and_evolution(table: Table, athena: AthenaClient, bucket: str) -> None:
    assert rows(athena, bucket, "SELECT count(*), max(n) FROM prices") == [["0", None]]
    moment = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
    full = {"price": 0.5, "ok": True, 'a "b" 桜': "it's", "kafka_timestamp": moment, "d": date(2026, 1, 2)}
    append(table, row(1, "2026-01-01", unfit=[("size", "big"), ("x", None)], **full), row(2, "2026-01-02"))
    with table.update_schema() as update:
        update.update_column("n", LongType())
        update.add_column("added", StringType())
    append(table, row(2**40, "2026-01-03", added="new"))

    assert rows(athena, bucket, "SELECT * FROM prices WHERE dt <= '2026-01-02' ORDER BY n") == [
        [
            *("1", "0.5", "true", "it's", "2026-01-02 03:04:05.678 UTC", "2026-01-02"),
            *("{size=big, x=null}", "2026-01-01", None),
        ],
        ["2", *[None] * 6, "2026-01-02", None],
    ]
    quoted = """SELECT lake.prices.n, "PRICES"."a ""b"" 桜" FROM "lake"."prices" WHERE ok"""
    assert rows(athena, bucket, quoted.replace('"PRICES"', "prices")) == [["1", "it's"]]
    assert rows(athena, bucket, "SELECT unfit['size'] FROM prices WHERE unfit IS NOT NULL") == [["big"]]
    by_day = """
        WITH days AS (SELECT dt, max(n) AS most, max(added) AS added FROM prices GROUP BY dt)
        SELECT d.* FROM days AS d JOIN prices AS p ON p.dt = d.dt AND p.n = d.most ORDER BY d.dt
    """
    assert rows(athena, bucket, by_day) == [
        ["2026-01-01", "1", None],
        ["2026-01-02", "2", None],
        ["2026-01-03", str(2**40), "new"],
    ]


def test_glues_pointer_decides_which_snapshot_is_read(
    table: Table, athena: AthenaClient, glue: GlueClient, bucket: str
) -> None:
    append(table, row(1, "2026-01-01"))
    committed = glue.get_table(DatabaseName="lake", Name="prices")["Table"]
    append(table, row(2, "2026-01-01"))
    assert rows(athena, bucket, "SELECT count(*) FROM prices") == [["2"]]
    # As after a commit whose metadata file is stored and that Glue refused.
    pointer = committed["Parameters"]
    glue.update_table(
        DatabaseName="lake",
        TableInput={
            "Name": "prices",
            "TableType": "EXTERNAL_TABLE",
            "Parameters": pointer,
            "StorageDescriptor": committed["StorageDescriptor"],
        },
    )
    assert rows(athena, bucket, "SELECT count(*) FROM prices") == [["1"]]


def test_tables_of_both_formats_meet_in_one_query(
    table: Table, athena: AthenaClient, glue: GlueClient, s3: S3Client, bucket: str
) -> None:
    append(table, row(1, "2026-01-01"), row(2, "2026-01-01"))
    s3.put_object(Bucket=bucket, Key="raw/0.json", Body=b'{"n": 1, "name": "one"}\n')
    glue.create_table(
        DatabaseName="lake",
        TableInput={
            "Name": "raw",
            "Parameters": {"classification": "json"},
            "StorageDescriptor": {
                "Location": f"s3://{bucket}/raw/",
                "Columns": [{"Name": "n", "Type": "int"}, {"Name": "name", "Type": "string"}],
            },
        },
    )
    joined = "SELECT p.n, raw.name FROM prices p LEFT JOIN raw ON raw.n = p.n ORDER BY 1"
    assert rows(athena, bucket, joined) == [["1", "one"], ["2", None]]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("OPTIMIZE prices REWRITE DATA USING BIN_PACK WHERE dt = '2026-01-01'", "does not run OPTIMIZE"),
        ("VACUUM prices", "does not run VACUUM"),
        ("INSERT INTO prices SELECT * FROM prices", "does not run INSERT"),
        ("CREATE TABLE copy AS SELECT * FROM prices", "does not run CREATE TABLE AS SELECT"),
        ('SELECT * FROM "prices$partitions"', "no metadata tables such as prices$partitions"),
        ("SELECT * FROM prices FOR TIMESTAMP AS OF current_timestamp", "syntax error"),
    ],
)
def test_what_only_athena_does_fails(
    table: Table, athena: AthenaClient, glue: GlueClient, bucket: str, sql: str, said: str
) -> None:
    append(table, row(1, "2026-01-01"))
    assert said in failure(athena, bucket, sql)
    assert [each["Name"] for each in glue.get_tables(DatabaseName="lake")["TableList"]] == ["prices"]


def test_a_damaged_table_fails(table: Table, athena: AthenaClient, s3: S3Client, bucket: str) -> None:
    append(table, row(1, "2026-01-01"))
    s3.delete_object(Bucket=bucket, Key=table.metadata_location.removeprefix(f"s3://{bucket}/"))
    assert "404" in failure(athena, bucket, "SELECT count(*) FROM prices")
