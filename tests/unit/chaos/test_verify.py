"""The chaos suite's count finds whatever could be wrong; otherwise its zeros would say nothing."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from tests.chaos.__main__ import merged
from tests.chaos.verify import Entry, RowId, Verdict, check_rereads, compare_offsets, verify

EVENTS: dict[RowId, Any] = {("a.csv", n): {"n": n, "note": None} for n in range(1, 9)}
BROKEN: dict[RowId, bytes | None] = {("broken", 0): None, ("broken", 1): b"hello"}
DAY = 1_767_312_000_000  # 2026-01-02 in milliseconds


def entries() -> list[Entry]:
    """Rows in turn on two partitions, and the broken ones at their ends."""
    found = [Entry(n % 2, n // 2, DAY + n, row, orjson.dumps(EVENTS[row])) for n, row in enumerate(EVENTS)]
    return found + [Entry(n, 4, DAY - 1, row, BROKEN[row]) for n, row in enumerate(BROKEN)]


def stored(records: list[Entry]) -> dict[str, bytes]:
    bucket = {}
    for record in records:
        if record.row in BROKEN:
            value = None if record.value is None else b64encode(record.value).decode()
            place = {"partition": record.partition, "offset": record.offset}
            bucket[record.key("dead-letters", "t")] = orjson.dumps(place | {"value": value, "reason": "why"})
        else:
            bucket[record.key("events", "t")] = record.value or b""
    return bucket


def check(records: list[Entry], bucket: dict[str, bytes]) -> Verdict:
    return verify("t", events=EVENTS, broken=BROKEN, records=records, bucket=bucket)


FIRST = "events/t/dt=2026-01-02/00000-00000000000000000000.json"
LETTER = "dead-letters/t/dt=2026-01-01/00001-00000000000000000004.json"


def test_what_is_stored_once_each_is_good() -> None:
    verdict = check(entries(), stored(entries()))
    assert verdict.good
    assert (verdict.rows, verdict.records, verdict.stored, verdict.dead_letters) == (10, 10, 8, 2)
    assert {FIRST, LETTER} <= stored(entries()).keys()


Change = Callable[[list[Entry], dict[str, bytes]], object]


def moved(bucket: dict[str, bytes], old: str, new: str) -> None:
    bucket[new] = bucket.pop(old)


BUCKET_CHANGES: list[tuple[Callable[[dict[str, bytes]], object], dict[str, int]]] = [
    (lambda bucket: bucket.pop(FIRST), {"lost": 1}),
    (lambda bucket: bucket.pop(LETTER), {"lost": 1}),
    (lambda bucket: bucket.update({FIRST: b'{"n":1}'}), {"altered": 1}),
    (
        lambda bucket: bucket.update({LETTER: b'{"partition":1,"offset":4,"value":"aGVsbG8="}'}),
        {"altered": 1},
    ),
    (lambda bucket: bucket.update({LETTER: b"not a letter"}), {"altered": 1}),
    (lambda bucket: bucket.update({f"{FIRST}.again": bucket[FIRST]}), {"duplicated": 1}),
    (lambda bucket: bucket.update({FIRST.replace("events", "dead-letters"): b"{}"}), {"duplicated": 1}),
    (lambda bucket: moved(bucket, FIRST, FIRST.replace("02/", "03/")), {"lost": 1, "duplicated": 1}),
    (
        lambda bucket: moved(bucket, LETTER, LETTER.replace("dead-letters", "events")),
        {"lost": 1, "duplicated": 1},
    ),
]


@pytest.mark.parametrize(("change", "wrong"), BUCKET_CHANGES)
def test_what_is_wrong_in_the_bucket_is_found(
    change: Callable[[dict[str, bytes]], object], wrong: dict[str, int]
) -> None:
    bucket = stored(entries())
    change(bucket)
    verdict = check(entries(), bucket)
    assert verdict.wrong == wrong
    assert len(verdict.examples) == sum(wrong.values())


def test_a_row_without_a_record_is_lost() -> None:
    records = [record for record in entries() if record.row != ("a.csv", 3)]
    assert check(records, stored(records)).wrong == {"lost": 1}


def test_a_row_with_two_records_is_duplicated_even_when_both_are_stored() -> None:
    records = entries()
    records.append(replace(records[0], partition=1, offset=5))
    assert check(records, stored(records)).wrong == {"duplicated": 1, "misordered": 1}


def test_a_record_of_no_row_is_found() -> None:
    records = entries()
    records.append(Entry(0, 5, DAY, ("b.csv", 1), b"{}"))
    assert check(records, stored(records)).wrong == {"duplicated": 1}


def test_a_record_that_is_not_its_row_is_altered() -> None:
    records = entries()
    records[0] = replace(records[0], value=b'{"n":2,"note":null}')
    assert check(records, stored(records)).wrong == {"altered": 1}


def test_rows_out_of_order_within_a_partition_are_found() -> None:
    records = entries()
    records[0], records[2] = (
        replace(records[0], row=records[2].row, value=records[2].value),
        replace(records[2], row=records[0].row, value=records[0].value),
    )
    assert check(records, stored(records)).wrong == {"misordered": 1}


def test_offsets_that_are_not_the_ends_are_found() -> None:
    verdict = Verdict()
    compare_offsets({0: 5, 1: 3}, {0: 5, 1: 4, 2: 0}, verdict)
    assert verdict.wrong == {"uncommitted": 1}
    compare_offsets({0: 6}, {0: 5}, verdict)
    assert verdict.wrong == {"uncommitted": 2}


def rereads(*repeated: tuple[float, int], commits: list[tuple[float, dict[int, int]]]) -> Verdict:
    """The verdict on puts of partition 1 at a time and an offset."""
    verdict = Verdict()
    puts = [(at, f"/b/events/t/dt=2026-01-02/00001-{offset:020d}.json") for at, offset in repeated]
    check_rereads(puts, commits, verdict)
    return verdict


def test_an_event_in_flight_may_be_read_again_and_a_committed_one_may_not() -> None:
    commits = [(0.0, {0: 9, 1: 0}), (10.0, {0: 9, 1: 5}), (20.0, {0: 9, 1: 0})]
    assert rereads((30.0, 5), (30.0, 6), commits=commits).good
    assert rereads((30.0, 4), (30.0, 5), commits=commits).wrong == {"reread_committed": 1}
    # What was in flight when it was committed by another worker still ends.
    assert rereads((11.0, 4), commits=commits).good
    assert rereads((5.0, 4), commits=[]).good


def test_reports_of_several_runs_are_added_up() -> None:
    same = {"seed": 7, "consumer": "lakefeed", "compact": True, "table_rows": None}
    one = same | {"lost": 1, "ends": {"workers": {"0": 2}}, "missing": []}
    two = same | {"lost": 2, "ends": {"workers": {"1": 1}}, "missing": ["x"]}
    assert merged([one]) == one
    assert merged([one, two]) == {
        **same,
        "lost": 3,
        "ends": {"workers": {"0": 2, "1": 1}},
        "missing": ["x"],
    }
