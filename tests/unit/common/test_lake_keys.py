from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed_common.lake.keys import ObjectKey, batch_key, event_key
from lakefeed_common.lake.records import Partition, Record


def record(offset: int = 7, value: bytes | None = b"{}", timestamp_ms: int = 1_767_225_600_000) -> Record:
    return Record(Partition("prices", 3), offset, timestamp_ms, b"k", value, (("source", b"a.csv"),))


def test_an_object_key_has_the_documented_form() -> None:
    assert event_key("events", record()) == "events/prices/dt=2026-01-01/00003-00000000000000000007.json"


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
    assert f"dt={day}/" in event_key("events", record(timestamp_ms=timestamp_ms))


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_keys_sort_as_offsets_do(one: int, other: int) -> None:
    assert (event_key("e", record(one)) < event_key("e", record(other))) == (one < other)


def test_the_key_of_a_batch_has_its_start_and_its_first_records_day_but_not_its_end() -> None:
    key = batch_key("batches", record(offset=9), start=5)
    assert key == "batches/prices/dt=2026-01-01/00003-00000000000000000005.json.gz"


@given(st.sampled_from([False, True]), st.integers(0, 2**63 - 1), st.integers(0, 2**31 - 1))
def test_a_key_is_parsed_into_what_it_was_made_of(batch: bool, offset: int, partition: int) -> None:
    key = ObjectKey(Partition("prices", partition), "1970-01-01", offset, batch)
    assert ObjectKey.parse("lake/events", key.text("lake/events")) == key


@pytest.mark.parametrize(
    "key",
    [
        "events/prices/dt=2026-01-01/00003-00000000000000000005.txt",
        "events/prices/dt=2026-01-01/x.json",
        "events/prices/00003-00000000000000000005.json",
        "other/prices/dt=2026-01-01/00003-00000000000000000005.json",
        "events/prices/dt=2026-01-01/00003-00000000000000000005-0123456789abcdef.json",
        "events/prices/dt=2026-13-45/00003-00000000000000000005.json",
        "events/prices/dt=2026-02-29/00003-00000000000000000005.json",
        "events/prices/dt=0000-01-01/00003-00000000000000000005.json",
        "events/prices/dt=2026-01-01/0000000003-00000000000000000005.json",
        "events/prices/dt=2026-01-01/9999999999-00000000000000000005.json",
        "events/prices/dt=2026-01-01/00003-99999999999999999999.json",
        "events/prices/dt=2026-01-01/0000\u0663-00000000000000000005.json",
    ],
)
def test_other_objects_have_no_key_of_ours(key: str) -> None:
    assert ObjectKey.parse("events", key) is None
