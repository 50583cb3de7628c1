"""Types of columns."""

import json
import math
from decimal import Decimal
from importlib import import_module

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed_producer.csv.byte_columns import ByteColumn
from lakefeed_producer.csv.column_types import (
    DEFAULT_NULLS,
    ColumnType,
    TypeFinder,
    fits,
    fitting,
    missing,
    surely_fit,
)

# Pandas' own list.
STR_NA_VALUES: set[str] = import_module("pandas._libs.parsers").STR_NA_VALUES


def found(*values: str) -> str:
    finder = TypeFinder()
    for value in values:
        finder.feed(ByteColumn.of([value.encode()]))
    together = TypeFinder()
    together.feed(ByteColumn.of([value.encode() for value in values]))
    assert finder.result() is together.result(), "blocks change nothing"
    return together.result().value


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-12", "0"], "integer"),
        (["9223372036854775807", "-9223372036854775808"], "integer"),
        (["1", "", "3"], "integer"),
        (["1", "NaN", "3"], "integer"),
        (["1", "2.5"], "number"),
        (["1.10", "6.02e23", "-0", "1E-7"], "number"),
        (["0.1000000000000000"], "number"),
        (["123456789012345678901234567890"], "string"),
        (["9007199254740993.0"], "string"),
        (["0.1000000000000000055"], "string"),
        (["1e400"], "string"),
        (["1e-400"], "string"),
        (["007", "1"], "string"),
        (["00.5"], "string"),
        (["+5"], "string"),
        ([".5"], "string"),
        (["5."], "string"),
        (["1,5"], "string"),
        ([" 5"], "string"),
        (["1.5", "inf"], "string"),
        (["1.5", "Infinity"], "string"),
        (["0x10"], "string"),
        (["1_000"], "string"),
        (["\u0661"], "string"),
        (["true", "FALSE", ""], "boolean"),
        (["true", "1"], "string"),
        (["1", "true"], "string"),
        (["9007199254740993", "1.5"], "string"),
        (["-0"], "number"),
        (["-"], "string"),
        (["1.2.3"], "string"),
        (["1-2"], "string"),
        (["999999999999999.5"], "number"),
        (["123456789012345678", "1"], "integer"),
        (["true", "NaN"], "boolean"),
        (["NA", "1"], "integer"),
        (["null", "1.5", "", "null", "2"], "number"),
        (["n/a", "1e5"], "number"),
        (["1", "NA", "x"], "string"),
        (["1", "nA"], "string"),
        (["1", "-"], "string"),
        (["null", "NA", "FALSE"], "boolean"),
        (["null"], "string"),
        (["NA", "DE"], "string"),
        (["2011-03-01"], "string"),
        (["NaN", "nan"], "string"),
        (["", ""], "string"),
        ([], "string"),
    ],
)
def test_a_column_has_the_narrowest_type_that_changes_nothing(values: list[str], kind: str) -> None:
    assert found(*values) == kind
    # Many values are checked together.
    assert found(*values * 301) == kind


@given(
    st.lists(st.sampled_from([*DEFAULT_NULLS, "", "1", "-0", "1e5", "1e-400", "0.5", "9" * 19, "tRue", "x"]))
)
def test_few_values_and_many_are_checked_alike(values: list[str]) -> None:
    few = ByteColumn.of([value.encode() for value in values[:300]])
    for kind in ColumnType:
        assert fitting(few, kind).tolist() == fits(few.arrow(), kind).to_pylist()
        if surely_fit(few, kind):
            assert fitting(few, kind).all()


@pytest.mark.parametrize("text", DEFAULT_NULLS)
def test_what_pandas_reads_as_missing_is_null_where_it_cannot_be_data(text: str) -> None:
    assert text in STR_NA_VALUES
    assert found("1", text) == "integer"
    assert found(text, "1.5") == "number"
    assert found(text, "true") == "boolean"
    assert found(text, "x") == found(text) == "string"
    column = ByteColumn.of([text.encode(), b""])
    for kind in ColumnType:
        assert missing(column, kind).tolist() == [kind is not ColumnType.STRING, True]
        assert fits(column.arrow(), kind).to_pylist() == [True, True]


def test_everything_that_pandas_reads_as_missing_is_known() -> None:
    assert {"", *DEFAULT_NULLS} == STR_NA_VALUES


@given(st.integers(-(2**70), 2**70))
def test_integers_within_64_bits_are_integers(value: int) -> None:
    inside = -(2**63) <= value < 2**63
    assert (found(str(value)) == "integer") is inside
    flags = fits(pa.array([str(value)], pa.string()), ColumnType.INTEGER).to_pylist()
    assert flags == [inside]


@given(st.floats())
def test_what_python_writes_of_a_double_is_a_number(value: float) -> None:
    assert (found(repr(value), "1.5") == "number") is (math.isfinite(value) or math.isnan(value))


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_a_number_keeps_its_value_through_json(text: str) -> None:
    if found(text) in ("integer", "number"):
        back = json.loads(text)
        assert Decimal(repr(back)) == Decimal(text)


@given(st.text(max_size=12))
def test_anything_numeric_is_a_json_number(text: str) -> None:
    if found(text) in ("integer", "number"):
        assert isinstance(json.loads(text), int | float)
