"""Which statements the local Athena runs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from lakefeed_local.ministack.statements import Token, UnsupportedError, check, check_metadata_table, single


def tokens(sql: str) -> Iterator[Token]:
    """As MiniStack reads SQL, without comments and texts."""
    for match in re.finditer(r'[A-Za-z_]\w*|"[^"]*"|\S', sql):
        text = match.group()
        kind = "qname" if text.startswith('"') else "name" if text[0].isalpha() else "punct"
        yield kind, text.lower() if kind == "name" else text.strip('"'), *match.span()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "with t as (select 1) select * from t;",
        "((SELECT 1) UNION (SELECT 2))",
        "VALUES 1",
        "EXPLAIN SELECT 1",
        'SELECT "insert" FROM "drop"',
    ],
)
def test_what_reads_is_run(sql: str) -> None:
    check(single(tokens(sql)), "AwsDataCatalog")


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("OPTIMIZE t REWRITE DATA USING BIN_PACK", "run OPTIMIZE;"),
        ("VACUUM t", "run VACUUM;"),
        ("INSERT INTO t SELECT 1", "run INSERT;"),
        ("CREATE TABLE t AS SELECT 1", "run CREATE TABLE AS SELECT;"),
        ("CREATE TABLE t WITH (format = 1) AS (SELECT 1)", "run CREATE TABLE AS SELECT;"),
        ("UNLOAD (SELECT 1) TO x", "run UNLOAD;"),
        ("MERGE INTO t USING s", "run MERGE;"),
        ("DELETE FROM t", "run DELETE;"),
        ("ALTER TABLE t ADD COLUMNS (a int)", "run ALTER TABLE;"),
        ("MSCK REPAIR TABLE t", "run MSCK;"),
        ("SHOW TABLES", "run SHOW TABLES;"),
        ("COPY t TO x", "run COPY;"),
        ("", "run ;"),
    ],
)
def test_what_only_athena_does_is_refused(sql: str, named: str) -> None:
    with pytest.raises(UnsupportedError, match=f"^NOT_SUPPORTED: the local Athena does not {named}"):
        check(single(tokens(sql)), None)


def test_one_statement_at_a_time() -> None:
    with pytest.raises(UnsupportedError, match="Only one sql statement"):
        single(tokens("SELECT 1; SELECT 2"))


def test_other_catalogs_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="S3 table buckets"):
        check(single(tokens("SELECT 1")), "s3tablescatalog/b")


def test_metadata_tables_are_refused() -> None:
    check_metadata_table("prices")
    check_metadata_table("us$")
    with pytest.raises(UnsupportedError, match=r"no metadata tables such as prices\$partitions"):
        check_metadata_table("prices$partitions")
