from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed_consumer.record import Partition, Record, object_key


def record(offset: int = 7, value: bytes | None = b"{}", timestamp_ms: int = 1_767_225_600_000) -> Record:
    return Record(Partition("prices", 3), offset, timestamp_ms, b"k", value, (("source", b"a.csv"),))


def test_an_object_key_has_the_documented_form() -> None:
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
def test_the_day_is_that_of_the_records_timestamp_in_utc(timestamp_ms: int, day: str) -> None:
    assert f"dt={day}/" in object_key("events", record(timestamp_ms=timestamp_ms))


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_keys_sort_as_offsets_do(one: int, other: int) -> None:
    assert (object_key("e", record(one)) < object_key("e", record(other))) == (one < other)
