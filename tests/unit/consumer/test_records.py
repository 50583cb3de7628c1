from __future__ import annotations

import base64

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed_consumer.dead_letters import dead_letter, why_dead
from lakefeed_consumer.records import Partition, Record, object_key


def record(offset: int = 7, value: bytes | None = b"{}", timestamp_ms: int = 1_767_225_600_000) -> Record:
    return Record(Partition("prices", 3), offset, timestamp_ms, b"k", value, (("source", b"a.csv"),))


def test_the_key_is_the_contracts() -> None:
    assert object_key("events", record()) == "events/prices/dt=2026-01-01/00003-00000000000000000007.json"


@pytest.mark.parametrize(
    ("timestamp_ms", "day"),
    [
        (1_767_225_599_999, "2025-12-31"),
        (1_767_225_600_000, "2026-01-01"),
        (0, "1970-01-01"),
        (-1, "1970-01-01"),
        (1_709_164_800_000, "2024-02-29"),
        (-(2**63), "1970-01-01"),
        (1_767_225_600_000_000, "9999-12-31"),
        (2**63 - 1, "9999-12-31"),
    ],
)
def test_the_day_is_the_records_own_in_utc(timestamp_ms: int, day: str) -> None:
    assert f"dt={day}/" in object_key("events", record(timestamp_ms=timestamp_ms))


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_keys_sort_as_offsets_do(one: int, other: int) -> None:
    assert (object_key("e", record(one)) < object_key("e", record(other))) == (one < other)


@pytest.mark.parametrize("value", [b"{}", b' {"a": [1, {"b": null}]} ', '{"é": "ü"}'.encode()])
def test_json_objects_are_events(value: bytes) -> None:
    assert why_dead(value) is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null value"),
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b'{"a": "\xff"}', "not JSON"),
        (b'{"a": 1} {"a": 2}', "not JSON"),
        (b"[1]", "an array"),
        (b'"text"', "a string"),
        (b"1", "a number"),
        (b"1.5", "a number"),
        (b"true", "a boolean"),
        (b"null", "not a JSON object but null"),
    ],
)
def test_all_else_is_dead_with_its_reason(value: bytes | None, reason: str) -> None:
    assert reason in str(why_dead(value))


@given(st.none() | st.binary(), st.none() | st.binary(), st.text(), st.none() | st.binary())
def test_a_dead_letter_keeps_the_record_whole(
    key: bytes | None, value: bytes | None, name: str, header: bytes | None
) -> None:
    letter = orjson.loads(dead_letter(Record(Partition("t", 1), 2, 3, key, value, ((name, header),)), "why"))

    def decoded(text: str | None) -> bytes | None:
        return None if text is None else base64.b64decode(text)

    assert (letter["topic"], letter["partition"], letter["offset"], letter["timestamp_ms"]) == ("t", 1, 2, 3)
    assert letter["reason"] == "why"
    assert (decoded(letter["key"]), decoded(letter["value"])) == (key, value)
    assert [(n, decoded(h)) for n, h in letter["headers"]] == [(name, header)]
