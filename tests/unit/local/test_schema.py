"""Columns are found as Glue finds them, in whatever order the documents come."""

from __future__ import annotations

import json
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed_local.crawl.schema import (
    Plain,
    Sample,
    Struct,
    documents,
    glue_type,
    infer,
    left_out,
    merge,
    sample,
    table_columns,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)
TYPES = VALUES.map(infer)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "string"),
        (True, "boolean"),
        (0, "int"),
        (2**31 - 1, "int"),
        (-(2**31), "int"),
        (2**31, "bigint"),
        (-(2**63), "bigint"),
        (2**63, "double"),
        (1.0, "double"),
        ("", "string"),
        ([], "array<string>"),
        ([1, 2.5], "array<double>"),
        ([None, 1], "array<int>"),
        ({}, "string"),
        ({"a": 1, "b": {"c": [True]}}, "struct<a:int,b:struct<c:array<boolean>>>"),
    ],
)
def test_types_of_values(value: Any, expected: str) -> None:
    assert glue_type(infer(value)) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (1, 2.5, "double"),
        (1, 2**40, "bigint"),
        (2**40, 0.5, "double"),
        (1, "x", "string"),
        (1, True, "string"),
        (None, 1, "int"),
        ([1], {"a": 1}, "string"),
        ([1], [2.5], "array<double>"),
        ([], ["x"], "array<string>"),
        ({"a": 1}, {"b": "x"}, "struct<a:int,b:string>"),
        ({}, {"b": 1}, "struct<b:int>"),
    ],
)
def test_types_that_differ(one: Any, other: Any, expected: str) -> None:
    assert glue_type(merge(infer(one), infer(other))) == expected
    assert merge(infer(other), infer(one)) == merge(infer(one), infer(other))


@given(TYPES, TYPES, TYPES)
def test_merging_is_independent_of_order_and_grouping(one: Any, two: Any, three: Any) -> None:
    assert merge(one, one) == one
    assert merge(one, two) == merge(two, one)
    assert merge(merge(one, two), three) == merge(one, merge(two, three))
    assert merge(one, Plain.UNKNOWN) == one
    assert merge(one, Plain.STRING) == Plain.STRING


@given(st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), min_size=1, max_size=5))
def test_a_sample_is_the_merge_of_its_documents(rows: list[dict[str, Any]]) -> None:
    nothing: Any = Struct({})
    expected = reduce(merge, map(infer, rows), nothing)
    for text in ("\n".join(map(json.dumps, rows)), "".join(json.dumps(row, indent=1) for row in rows)):
        found = sample(text)
        assert found.columns is not None
        assert Struct(found.columns) == expected
        assert found.records == len(rows)


def test_a_cut_off_document_is_left_out_of_a_truncated_sample() -> None:
    assert sample('{"a": 1}\n{"a": 2}\n{"b"', truncated=True) == Sample({"a": Plain.INT}, 2)


@pytest.mark.parametrize("text", ["", "  \n", "not json", "42", '{"a": 1} garbage', '{"a"', "[" * 100_000])
def test_text_that_is_not_json_of_a_table(text: str) -> None:
    assert sample(text) == Sample(None, 0)


def test_an_array_file_is_one_column() -> None:
    found = sample('[{"id": 1}, {"id": 2}]')

    assert found.columns is not None
    assert table_columns(found.columns) == [{"Name": "array", "Type": "array<struct<id:int>>"}]


def test_documents_need_no_space_between() -> None:
    assert list(documents('{"a":1}{"a":2}\n\n[3]')) == [{"a": 1}, {"a": 2}, [3]]


def test_names_are_lower_case_and_unique() -> None:
    columns = {
        "Id": Plain.INT,
        "ID": Plain.DOUBLE,
        "Name": Plain.STRING,
        "番号": Plain.INT,
        "a\u3000": Plain.INT,
    }

    assert table_columns(columns, ["dt"]) == [
        {"Name": "id", "Type": "double"},
        {"Name": "name", "Type": "string"},
        {"Name": "番号", "Type": "int"},
        {"Name": "a\u3000", "Type": "int"},
    ]
    assert left_out(columns, ["dt"]) == []


@pytest.mark.parametrize("name", ["dt", "DT", "Dt"])
def test_a_partition_keys_name_is_not_a_column(name: str) -> None:
    columns = {name: Plain.STRING, "dt_2": Plain.INT}
    assert table_columns(columns, ["dt"]) == [{"Name": "dt_2", "Type": "int"}]
    assert left_out(columns, ["dt"]) == [name]
    assert left_out(columns) == []


@pytest.mark.parametrize("name", ["", "x" * 256, "番" * 86, "a\nb"])
def test_a_name_that_the_catalogue_cannot_store_is_not_a_column(name: str) -> None:
    found = sample(json.dumps({name: 1, "kept": 2})).columns
    assert found is not None
    assert table_columns(found) == [{"Name": "kept", "Type": "int"}]
    assert left_out(found) == [name]
