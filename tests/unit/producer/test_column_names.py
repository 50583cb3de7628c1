"""Names of columns: Athena accepts each, and each is distinct."""

from __future__ import annotations

import unicodedata
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed_common.tables import PARTITION_KEY, folded, is_column_name
from lakefeed_producer.csv.column_names import event_names, sql_name

Naming = Literal["sql", "as-is"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Adj Close", "adj_close"),
        ("Größe (m²)", "grosse_m2"),
        ("Prénom", "prenom"),
        ("2nd", "_2nd"),
        ("%", "_"),
        ("", "_"),
        ("_id", "_id"),
        ("a--b", "a_b"),
        (" x ", "x"),
        ("ÆØŁ", "aeol"),
        ("col·lecció", "col_leccio"),
        ("番号", "番号"),
        ("植物 名", "植物_名"),
        ("Цена, ₽", "цена"),
        ("Йод", "йод"),
        ("ガス", "ガス"),
        ("हिन्दी", "हिन्दी"),
        ("ภาษาไทย", "ภาษาไทย"),
        ("한국어", "한국어"),
        ("مبلغ", "مبلغ"),
        ("٣", "_٣"),
        ("１月", "_1月"),
        ("1\ufe0f\u20e3", "_1"),
        ("葛\U000e0100", "葛"),
        ("İ", "i"),
    ],
)
def test_names_are_made_safe_for_sql(name: str, expected: str) -> None:
    assert sql_name(name) == unicodedata.normalize("NFC", expected)


@given(st.text())
def test_a_safe_name_is_safe(name: str) -> None:
    safe = sql_name(name)
    assert safe == safe.lower()
    assert safe.isidentifier()
    assert sql_name(safe) == safe


@pytest.mark.parametrize(
    ("header", "sql", "as_is"),
    [
        (["a", "a"], ["a", "a_2"], ["a", "a_2"]),
        (["Adj Close", "x", "adj-close"], ["adj_close", "x", "adj_close_2"], ["Adj Close", "x", "adj-close"]),
        (["Id", "id", "ID"], ["id", "id_2", "id_3"], ["Id", "id_2", "ID_3"]),
        (["a", "a", "A_2"], ["a", "a_3", "a_2"], ["a", "a_3", "A_2"]),
        (["a", "", " "], ["a", "column_2", "column_3"], ["a", "column_2", "column_3"]),
        (["column_2", ""], ["column_2", "column_2_2"], ["column_2", "column_2_2"]),
        (["%", "#"], ["column_1", "column_2"], ["%", "#"]),
        (["dt", "DT", "dt_2"], ["dt_3", "dt_4", "dt_2"], ["dt_3", "DT_4", "dt_2"]),
        (["番号", "植物名"], ["番号", "植物名"], ["番号", "植物名"]),
        (["Price\nUSD"], ["price_usd"], ["Price USD"]),
    ],
)
def test_no_column_gets_the_name_of_another(header: list[str], sql: list[str], as_is: list[str]) -> None:
    assert event_names(header, "sql") == sql
    assert event_names(header, "as-is") == as_is


@pytest.mark.parametrize("naming", ["sql", "as-is"])
@pytest.mark.parametrize("letter", ["x", "é", "番"])
def test_a_long_name_is_cut_to_what_the_catalog_accepts(letter: str, naming: Naming) -> None:
    names = event_names([letter * 300, letter * 301, letter * 300], naming)
    assert len({folded(name) for name in names}) == 3
    assert all(is_column_name(name) for name in names)
    assert all(len(name.encode()) > 250 for name in names)


# Few letters, so that names collide.
@given(st.lists(st.text(st.sampled_from("aA_2 é番\n%dtDT"), max_size=4) | st.text(), max_size=8))
def test_each_column_is_one_of_the_table(header: list[str]) -> None:
    header = [name.encode(errors="ignore").decode() for name in header]
    namings: tuple[Naming, Naming] = ("sql", "as-is")
    for naming in namings:
        names = event_names(header, naming)
        keys = [folded(name) for name in names]
        assert len(set(keys)) == len(header)
        assert PARTITION_KEY not in keys
        assert all(is_column_name(name) for name in names)


def test_what_is_renamed_is_reported() -> None:
    reported: list[str] = []
    event_names(["Adj Close", "DT", "", "adj-close", "x" * 300], "sql", reported.append)
    assert reported == [
        "column 2 ('DT') is called 'dt_2' in the events: the partition key of each table has that name",
        "column 3 ('') is called 'column_3' in the events: the header has no name for it",
        "column 4 ('adj-close') is called 'adj_close_2' in the events: column 1 has that name in Athena",
        f"column 5 ('{'x' * 50}…{'x' * 10}') is called '{'x' * 50}…{'x' * 10}' in the events: "
        "a column name can have 255 bytes in Athena",
    ]
