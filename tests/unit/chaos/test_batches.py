"""The chaos suite's own decoding of batches: it finds what is lost, doubled or altered in them."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import pytest

from lakefeed_common.lake.records import Partition, Record
from tests.chaos.adoptions import Increase
from tests.chaos.batches import unpacked
from tests.chaos.verify import Entry, RowId, Verdict, verify
from tests.helpers.lake_objects import START_MS, batch
from tests.helpers.services import metric_value

EVENTS: dict[RowId, dict[str, int]] = {("a.csv", n): {"n": n} for n in range(6)}
RECORDS = [Entry(0, n, START_MS + n, ("a.csv", n), b'{"n":%d}' % n) for n in range(6)]


def stored(*ranges: tuple[int, int]) -> dict[str, bytes]:
    """The batches of these ranges, as the consumer stores them."""
    found = {}
    for start, end in ranges:
        records = [
            Record(
                Partition("t", 0),
                each.offset,
                each.timestamp_ms,
                None,
                each.value,
                (("source", b"a.csv"), ("row", b"%d" % each.row[1])),
            )
            for each in RECORDS[start:end]
        ]
        one = batch(records)
        found[one.key] = one.body
    return found


def check(bucket: dict[str, bytes]) -> Verdict:
    verdict = Verdict()
    found = unpacked("t", bucket, RECORDS, verdict)
    return verify("t", events=EVENTS, broken={}, records=RECORDS, bucket=found, verdict=verdict)


def test_each_event_in_one_batch_is_good() -> None:
    verdict = check(stored((0, 2), (2, 6)))
    assert verdict.good, verdict.examples
    assert (verdict.batches, verdict.stored, verdict.records) == (2, 6, 6)


def test_what_a_batch_holds_twice_or_not_at_all_is_found() -> None:
    assert check(stored((0, 2), (3, 6))).wrong == {"lost": 1}
    assert check(stored((0, 3), (2, 6))).wrong == {"duplicated": 1}
    assert check(stored((0, 6)) | {RECORDS[1].key("events", "t"): b'{"n":1}'}).wrong == {"duplicated": 1}


FIRST = next(iter(stored((0, 6))))
EDITS: list[tuple[Callable[[bytes], bytes], dict[str, int]]] = [
    (lambda lines: lines.replace(b'{"n":2', b'{"n":3'), {"altered": 1}),
    (lambda lines: lines.replace(b'{"n":2', b'{"n": 2'), {"altered": 1}),
    (lambda lines: lines.replace(b'"t":%d' % (START_MS + 2), b'"t":%d' % START_MS), {"altered": 1}),
    (lambda lines: lines.replace(b'"p":0,"o":2', b'"p":1,"o":2'), {"altered": 1, "lost": 1, "duplicated": 1}),
    (lambda lines: b"".join(reversed(lines.splitlines(keepends=True))), {"altered": 5}),
    (lambda lines: lines + b"{}\n", {"altered": 1}),
    (lambda lines: lines + lines.splitlines(keepends=True)[0], {"duplicated": 1}),
]


@pytest.mark.parametrize(("edit", "wrong"), EDITS)
def test_a_line_that_is_not_its_record_is_found(
    edit: Callable[[bytes], bytes], wrong: dict[str, int]
) -> None:
    bucket = stored((0, 6))
    bucket[FIRST] = gzip.compress(edit(gzip.decompress(bucket[FIRST])))
    assert check(bucket).wrong == wrong


def test_a_batch_under_another_day_or_partition_and_a_damaged_one_are_found() -> None:
    body = stored((0, 6))[FIRST]
    for wrong_key in (FIRST.replace("2026", "2025"), FIRST.replace("/00000-", "/00001-")):
        assert check({wrong_key: body}).wrong == {"altered": 6}
    assert check({FIRST: body[:-1]}).wrong == {"altered": 1, "lost": 6}
    assert check({f"dead-letters/{FIRST}": body}).wrong == {"lost": 6, "duplicated": 1}


def test_a_counter_of_processes_that_come_and_go_is_added_up() -> None:
    adopted = Increase()
    for port, value in ((1, 2.0), (2, 1.0), (1, 2.0), (1, 0.0), (1, 3.0), (2, 4.0)):
        adopted.see(port, value)
    assert adopted.total == 9
    text = '# TYPE b counter\nb_total{outcome="adopted"} 3.0\nb_total{outcome="stored"} 5.0\n'
    assert metric_value(text, "b_total", {"outcome": "adopted"}) == 3
