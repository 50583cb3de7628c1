"""The view over both layouts."""

from __future__ import annotations

import pytest
import sqlglot
import trino_sql_validator

from lakefeed_analytics.catalogue import Column, Table
from lakefeed_analytics.layouts import both_layouts
from lakefeed_common.errors import InputError

_DT = Column("dt", "string", partition=True)
_KAFKA = Column("_kafka", "struct<p:int,o:int,t:bigint>")


def table(name: str, *columns: Column) -> Table:
    return Table(name, f"s3://lake/{name}/", (*columns, _DT))


def test_columns_of_both_in_one_type() -> None:
    objects = table("a", Column("date", "string"), Column("n", "int"), Column("x", "bigint"))
    batches = table("batches_a", Column("n", "double"), Column("x", "string"), Column("new", "int"), _KAFKA)
    sql = both_layouts('a "both"', objects, batches)
    assert sql == (
        'CREATE OR REPLACE VIEW "a ""both""" AS\n'
        'SELECT\n    "date",\n    "n",\n    CAST("x" AS varchar) AS "x",\n    NULL AS "new",\n'
        """    CAST(regexp_extract("$path", '(\\d+)-(\\d+)\\.json$', 1) AS integer) AS kafka_partition,\n"""
        """    CAST(regexp_extract("$path", '(\\d+)-(\\d+)\\.json$', 2) AS bigint) AS kafka_offset,\n"""
        '    "dt"\nFROM "a"\n'
        "UNION ALL\n"
        'SELECT\n    NULL AS "date",\n    "n",\n    CAST("x" AS varchar) AS "x",\n    "new",\n'
        "    _kafka.p AS kafka_partition,\n    CAST(_kafka.o AS bigint) AS kafka_offset,\n"
        '    "dt"\nFROM "batches_a"'
    )
    assert trino_sql_validator.validate(sql).valid
    assert len(sqlglot.parse(sql, dialect="athena")) == 1


def test_types_without_a_common_one_are_reported() -> None:
    objects = table("a", Column("x", "struct<a:int>"))
    with pytest.raises(InputError, match=r"the column x is struct<a:int> in one table and int in the other"):
        both_layouts("both", objects, table("batches_a", Column("x", "int"), _KAFKA))
