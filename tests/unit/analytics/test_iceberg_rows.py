"""Rows of a table: types by rule, values that do not fit are kept, and both ways of parsing agree."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakefeed_analytics.iceberg.columns import OWN_COLUMNS, ColumnType, from_glue, type_of, widened
from lakefeed_analytics.iceberg.events import fields
from lakefeed_analytics.iceberg.rows import Lines, RowReader, found_types
from lakefeed_common.errors import InputError
from lakefeed_common.lake.lines import to_line
from lakefeed_common.lake.records import Record
from tests.helpers.analytics.batches import record

BOOLEAN, LONG, DOUBLE, STRING = ColumnType.BOOLEAN, ColumnType.LONG, ColumnType.DOUBLE, ColumnType.STRING


def lines(*events: bytes) -> Lines:
    return lines_of([record("t", 3, 10 + number, each) for number, each in enumerate(events)])


def lines_of(records: list[Record]) -> Lines:
    data = b"".join(to_line(each, each.value or b"") for each in records)
    return Lines("t", "2026-01-01", data, len(records), "s3://lake/batch")


def rows(columns: dict[str, ColumnType], *events: bytes) -> list[dict[str, Any]]:
    table, _ = RowReader(columns).read(lines(*events))
    return [
        {name: row[name] for name in columns} | {"unfit": dict(row["unfit"] or [])}
        for row in table.to_pylist()
    ]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (LONG, b"9223372036854775807", 2**63 - 1),
        (LONG, b"9223372036854775808", None),
        (LONG, b"-0", 0),
        (LONG, b"1.0", None),
        (LONG, b'"1"', None),
        (LONG, b"true", None),
        (LONG, b"[1]", None),
        (DOUBLE, b"1", 1.0),
        (DOUBLE, b"1.50", 1.5),
        (DOUBLE, b"9007199254740992", 2.0**53),
        (DOUBLE, b"9007199254740993", None),
        (DOUBLE, b"-9007199254740993", None),
        (DOUBLE, b"12345678901234567891", None),
        (DOUBLE, b"18446744073709551616", 2.0**64),
        (DOUBLE, b"-0", 0.0),
        (DOUBLE, b"9" * 5000, None),
        (LONG, b"9" * 5000, None),
        (LONG, b"-9223372036854775808", -(2**63)),
        (DOUBLE, b"12345678901234567891.0", 12345678901234567891.0),
        (DOUBLE, b"1e400", None),
        (DOUBLE, b"1.7976931348623157e309", None),
        (DOUBLE, b'"n/a"', None),
        (BOOLEAN, b"false", False),
        (BOOLEAN, b"0", None),
        (STRING, b"1.50", "1.50"),
        (STRING, b"true", "true"),
        (STRING, b'"\\u00e9\\n"', "é\n"),
        (STRING, b'"2017-01-03"', "2017-01-03"),
        (STRING, b'{"a": [1.50, "}"]}', '{"a": [1.50, "}"]}'),
    ],
)
def test_a_value_is_in_its_column_or_kept_with_its_text(
    kind: ColumnType, value: bytes, expected: object
) -> None:
    # The second event makes sure that the first is not parsed alone.
    row = rows({"a": kind}, b'{"a":' + value + b"}", b"{}")[0]
    if expected is None:
        text = orjson.loads(value) if value.startswith(b'"') else value.decode()
        assert row == {"a": None, "unfit": {"a": text}}
    else:
        assert row == {"a": expected, "unfit": {}}
        assert type(row["a"]) is type(expected)


@pytest.mark.parametrize("other", [b"{}", b'{"a":1.5}', b'{"a":1}', b'{"a":1e300}'])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"9007199254740993", {LONG, DOUBLE}),
        (b"9223372036854775808", {DOUBLE}),
        (b"12345678901234567891", {STRING}),
        (b"-12345678901234567891", {STRING}),
        (b"1e400", {STRING}),
        (b"9" * 5000, {STRING}),
    ],
)
def test_the_type_of_a_number_holds_it(value: bytes, expected: set[ColumnType], other: bytes) -> None:
    found = widened({}, found_types(lines(b'{"a":' + value + b"}", other)))
    assert found["a"] in expected
    row = rows(found, b'{"a":' + value + b"}", other)[0]
    kept = row["unfit"].get("a", row["a"])
    assert kept == value.decode() or kept == int(value)
    assert not row["unfit"] or found["a"] is DOUBLE


def test_null_and_missing_are_null() -> None:
    assert rows({"a": LONG}, b'{"a":null}', b"{}", b'{"a":1}') == [
        {"a": None, "unfit": {}},
        {"a": None, "unfit": {}},
        {"a": 1, "unfit": {}},
    ]


def test_names_of_columns_have_no_case() -> None:
    reader = RowReader({"close": DOUBLE})
    for _ in range(2):
        table, known = reader.read(lines(b'{"Close":1.5}', b'{"Close":2}'))
        assert known
        assert table.column("close").to_pylist() == [1.5, 2.0]


def test_of_keys_that_differ_in_case_alone_the_first_has_the_column() -> None:
    assert rows({"a": LONG}, b'{"A":1,"a":2,"b":3}') == [{"a": 1, "unfit": {"a": "2", "b": "3"}}]


def test_of_a_key_that_occurs_twice_the_last_value_counts() -> None:
    assert rows({"a": LONG}, b'{"a":1,"a":2}') == [{"a": 2, "unfit": {}}]


def test_keys_that_cannot_be_columns_are_kept() -> None:
    table, known = RowReader({"a": LONG}).read(lines(b'{"a":1,"dt":"x","kafka_offset":7,"":true}'))
    assert known
    assert dict(table.to_pylist()[0]["unfit"]) == {"dt": "x", "kafka_offset": "7", "": "true"}
    assert table.column("dt").to_pylist() == ["2026-01-01"]
    assert table.column("kafka_offset").to_pylist() == [10]


def test_a_table_without_columns_of_events_keeps_their_values() -> None:
    assert rows({}, b'{"a":1}', b"{}") == [{"unfit": {"a": "1"}}, {"unfit": {}}]


def test_a_new_key_is_reported_but_not_one_that_is_always_null() -> None:
    assert not RowReader({"a": LONG}).read(lines(b'{"a":1,"b":2}'))[1]
    reader = RowReader({"a": LONG})
    assert reader.read(lines(b'{"a":1,"b":null}'))[1]
    assert not reader.read(lines(b'{"a":1,"b":null}', b'{"a":1,"b":0}'))[1]


def test_partition_offset_and_timestamp_are_columns() -> None:
    table, _ = RowReader({}).read(lines(b"{}", b"{}"))
    first = table.to_pylist()[0]
    assert (first["kafka_partition"], first["kafka_offset"]) == (3, 10)
    assert first["kafka_timestamp"].isoformat() == "2026-09-21T14:13:20+00:00"


@pytest.mark.parametrize(
    ("timestamp_ms", "shown"),
    [
        (-1, None),
        (0, "1970-01-01T00:00:00+00:00"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999000+00:00"),
        (253_402_300_800_000, None),
        (10**18, None),
    ],
)
def test_a_timestamp_that_no_date_has_is_null(timestamp_ms: int, shown: str | None) -> None:
    one = record("t", 0, 0, b"{}", timestamp_ms)
    table, _ = RowReader({}).read(Lines("t", "1970-01-01", to_line(one, b"{}"), 1, "x"))
    assert [each and each.isoformat() for each in table.column("kafka_timestamp").to_pylist()] == [shown]


@pytest.mark.parametrize("data", [b'{"a":1}\n', b'{"a":1,"_kafka":{"p":1}}\n', b"x\n", b"\n"])
def test_a_damaged_line_is_an_error_that_names_the_object(data: bytes) -> None:
    with pytest.raises(InputError, match="s3://lake/batch"):
        RowReader({"a": LONG}).read(Lines("t", "2026-01-01", data, 1, "s3://lake/batch"))


def test_types_are_found_by_rule() -> None:
    found = found_types(
        lines(
            b'{"l":1,"d":1,"b":true,"s":"2017-01-03","n":null,"o":{"x":1},"m":1,"big":9223372036854775808}',
            b'{"d":1.5,"m":"x","l":null}',
        )
    )
    assert widened({}, found) == {
        "l": LONG,
        "d": DOUBLE,
        "b": BOOLEAN,
        "s": STRING,
        "o": STRING,
        "m": STRING,
        "big": DOUBLE,
    }


def test_known_columns_are_widened_and_new_ones_added_behind_them() -> None:
    assert widened({"a": LONG, "b": BOOLEAN}, [("C", LONG), ("A", DOUBLE), ("b", LONG), ("dt", LONG)]) == {
        "a": DOUBLE,
        "b": STRING,
        "c": LONG,
    }


def test_there_is_a_limit_of_columns() -> None:
    many = widened({}, ((f"k{number}", LONG) for number in range(2000)))
    assert len(many) == 1000


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        *(("bigint", LONG), ("int", LONG), ("double", DOUBLE), ("decimal(10,2)", DOUBLE)),
        *(("boolean", BOOLEAN), ("string", STRING), ("date", STRING), ("struct<a:int>", STRING)),
    ],
)
def test_types_of_a_crawler(kind: str, expected: ColumnType) -> None:
    assert from_glue(kind) is expected


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**64, 2**64 + 1]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
_EVENTS = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "c", "A", "dt", "unfit", 'q"']), _VALUES, max_size=5),
    min_size=1,
    max_size=5,
)


@settings(max_examples=150, deadline=None)
@given(events=_EVENTS, ascii_only=st.booleans())
def test_taking_events_apart_agrees_with_a_parser(events: list[dict[str, Any]], ascii_only: bool) -> None:
    for event in events:
        text = json.dumps(event, ensure_ascii=ascii_only)
        found = {
            field.key: field.text if field.string else json.loads(field.text)
            for field in fields(text.encode(errors="surrogatepass") if ascii_only else text.encode())
        }
        assert found == event


@settings(max_examples=150, deadline=None)
@given(events=_EVENTS, kinds=st.lists(st.sampled_from(list(ColumnType)), min_size=3, max_size=3))
def test_both_ways_of_parsing_give_the_same_rows(
    events: list[dict[str, Any]], kinds: list[ColumnType]
) -> None:
    given_lines = lines(*(json.dumps(each, ensure_ascii=False).encode() for each in events))
    columns = dict(zip("abc", kinds, strict=True))
    fast, _ = RowReader(columns).read(given_lines)
    slow, _ = RowReader(columns)._one_by_one(given_lines)
    assert fast.equals(slow.cast(fast.schema))
    kept = widened({}, found_types(given_lines))
    slow_kinds: dict[str, ColumnType] = {}
    for event in events:
        for field in fields(json.dumps(event, ensure_ascii=False).encode()):
            if (kind := type_of(field.text, string=field.string)) is not None:
                slow_kinds = widened(slow_kinds, [(field.key, kind)])
    assert kept == slow_kinds


@settings(max_examples=50, deadline=None)
@given(events=_EVENTS)
def test_nothing_of_an_event_is_lost(events: list[dict[str, Any]]) -> None:
    """Each value that is not null is in its column or in `unfit`."""
    payload = [json.dumps(each, ensure_ascii=False).encode() for each in events]
    for event, row in zip(events, rows({"a": LONG, "b": STRING}, *payload), strict=True):
        for key, value in event.items():
            assert value is None or key in row["unfit"] or row[key.lower()] is not None


@pytest.mark.parametrize(
    "details",
    [
        {"key": b"k"},
        {"key": b""},
        {"headers": (("row", b"1"), ("empty", None))},
        {"value": b'{"a":1} '},
        {"key": b"k", "headers": (("row", b"1"),), "value": b'{"a":1} '},
    ],
)
def test_key_headers_and_white_space_have_no_column_and_change_no_row(details: dict[str, Any]) -> None:
    usual = record("t", 3, 10, b'{"a":1}')
    for records in ([usual._replace(**details), usual._replace(offset=11)], [usual._replace(**details)]):
        table = arrow_rows(lines_of(records))
        assert table.column_names == ["a", *OWN_COLUMNS]
        assert table.column("a").to_pylist() == [1] * len(records)
        assert table.equals(RowReader({"a": LONG})._one_by_one(lines_of(records))[0].cast(table.schema))


def arrow_rows(given_lines: Lines) -> pa.Table:
    """The rows, which must have been parsed by Arrow."""
    reader = RowReader({"a": LONG})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "_one_by_one", lambda _: pytest.fail("taken apart one by one"))
        return reader.read(given_lines)[0]


def test_arrow_does_not_take_lines_with_carriage_returns_apart() -> None:
    table, _ = RowReader({"a": LONG}).read(lines(b'{"a":\r1}', b'{"a":2}'))
    assert isinstance(table, pa.Table)
    assert table.column("a").to_pylist() == [1, 2]
