"""Statements about views, and views in the catalogue."""

from __future__ import annotations

import pytest

from lakefeed_local.ministack.statements import UnsupportedError
from lakefeed_local.ministack.views import CreateView, DropView, is_view, parse, query_of
from tests.unit.local.test_statements import tokens


@pytest.mark.parametrize(
    ("sql", "view"),
    [
        ("CREATE VIEW v AS SELECT 1 AS a", CreateView(None, "v", "SELECT 1 AS a", replace=False)),
        (
            'create or replace view "L"."V" as (select 1)',
            CreateView("l", "v", "(select 1)", replace=True),
        ),
        ("DROP VIEW v", DropView(None, "v", if_exists=False)),
        ("DROP VIEW IF EXISTS lake.v", DropView("lake", "v", if_exists=True)),
        ("SELECT 1", None),
        ("DROP TABLE v", None),
    ],
)
def test_statements(sql: str, view: CreateView | DropView | None) -> None:
    assert parse(sql, list(tokens(sql))) == view


@pytest.mark.parametrize(
    "sql", ["CREATE VIEW v SECURITY INVOKER AS SELECT 1", "CREATE VIEW v AS", "DROP VIEW v w"]
)
def test_more_than_that_is_refused(sql: str) -> None:
    with pytest.raises(UnsupportedError, match=r"knows (CREATE|DROP) VIEW with a name"):
        parse(sql, list(tokens(sql)))


def test_the_catalogue_keeps_the_query() -> None:
    view = CreateView(None, "v", "SELECT '桜' AS a", replace=False)
    table = view.table({"a": "varchar", "n": "bigint"})
    assert is_view(table)
    assert query_of(table) == view.query
    assert table["StorageDescriptor"]["Columns"] == [
        {"Name": "a", "Type": "string"},
        {"Name": "n", "Type": "bigint"},
    ]
    assert not is_view({"TableType": "EXTERNAL_TABLE"})
    with pytest.raises(UnsupportedError, match="another engine"):
        query_of({"Name": "v", "ViewOriginalText": "SELECT 1"})
