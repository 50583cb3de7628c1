"""Restores that are killed anywhere and started again: each record once, in order, as it was."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed_common.errors import InputError
from lakefeed_common.lake.records import Record
from lakefeed_producer.kafka.record_batches import RecordBatch
from lakefeed_producer.restore.delivery import Delivery
from lakefeed_producer.restore.findings import Findings, Risk
from lakefeed_producer.restore.missed import Restored, check_missed
from lakefeed_producer.restore.objects import Inventory, Source
from lakefeed_producer.restore.offset_map import OffsetMap
from lakefeed_producer.restore.reading import Reading
from lakefeed_producer.restore.records import Encoder
from lakefeed_producer.restore.restore_topic import Progress, RestoreTopic
from lakefeed_producer.restore.tail import read_tail
from tests.helpers.lake_objects import (
    DAY_MS,
    START_MS,
    MemoryStore,
    Stored,
    batch,
    batches,
    event,
    some_records,
)
from tests.helpers.memory_target import Killed, MemorySender, MemoryTarget

SEEDS = 24


def restore(
    store: MemoryStore,
    target: MemoryTarget,
    path: Path,
    *,
    layout: str = "batches",
    kill_at: float = 1e9,
    accept: Risk | None = None,
) -> Progress:
    """One run, as the command wires it; killed before or after its n-th record batch was appended."""
    sent = 0

    def before(_: RecordBatch) -> None:
        nonlocal sent
        sent += 1
        if sent > kill_at:
            raise Killed

    def after(_: RecordBatch) -> None:
        if sent + 0.5 > kill_at:
            raise Killed

    sources = [Source("lake", each, "prices") for each in layout.split()]
    inventory = Inventory.of({source: store.list(source.folder) for source in sources})
    names = " ".join(map(str, sources))
    with ThreadPoolExecutor(2) as pool, OffsetMap(path, names, "target") as offset_map:
        target.fence()
        tail = read_tail(target, "target", "prices")
        begin = [max(low, offset_map.ends.get(at, low)) for at, low in enumerate(tail.first)]
        offset_map.complete(target.placed(begin, tail.ends, lambda: None))
        reading = Reading(inventory, store, pool, Findings(frozenset({accept} if accept else ())))
        check_missed(reading, tail.positions, offset_map.restored)
        # Small record batches: many places to be killed at.
        use_case = RestoreTopic(reading, Encoder("prices", "none", 2_000), None, threading.Event(), print)
        ends = dict(enumerate(tail.ends))
        return use_case.run(
            tail.positions, Delivery(MemorySender(target, before, after), ends, offset_map, 5)
        )


def mapped(path: Path) -> dict[tuple[int, int], int]:
    """The offset map: new offsets by partition and old offset; none is mapped twice."""
    found: dict[tuple[int, int], int] = {}
    for line in path.read_text().splitlines()[1:]:
        run = json.loads(line)
        for at in range(run["count"]):
            assert (run["partition"], run["old"] + at) not in found
            found[run["partition"], run["old"] + at] = run["new"] + at
    return found


def random_chain(choose: random.Random, records: Sequence[Record]) -> list[Stored]:
    """Batches of random sizes, each of one day; some repeat records of those before it."""
    stored, starts, begin = [], set[int](), 0
    while begin < len(records):
        first = max(0, begin - choose.randrange(60)) if begin and choose.random() < 0.2 else begin
        if first in starts:  # the one that is there would have been adopted
            first = begin
        starts.add(first)
        day = records[first].timestamp_ms // DAY_MS
        most = first + choose.choice([1, 7, 100, 400])
        end = first
        while end < min(most, len(records)) and records[end].timestamp_ms // DAY_MS == day:
            end += 1
        following = records[end].offset if end < len(records) else None
        stored.append(batch(records[first:end], end=following))
        begin = max(begin, end)
    return stored


def random_layouts(choose: random.Random, records: Sequence[Record]) -> list[Stored]:
    """Objects of a topic whose layout was changed at random records."""
    stored: list[Stored] = []
    edges = sorted({0, len(records), *(choose.randrange(len(records) + 1) for _ in range(3))})
    for number, (begin, end) in enumerate(pairwise(edges)):
        part = records[begin:end]
        stored += random_chain(choose, part) if number % 2 else map(event, part)
    return stored


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_restore_that_is_killed_anywhere_resumes_without_a_gap_or_a_duplicate(
    seed: int, tmp_path: Path
) -> None:
    choose = random.Random(seed)
    path = tmp_path / "offsets.jsonl"
    partitions = choose.choice([1, 2, 9])
    store, records = MemoryStore(), {}
    layout = choose.choice(["batches", "batches", "events", "events batches"])
    for number in range(partitions):
        # Gaps, as of markers and dead letters, and days that interleave.
        offsets = [
            at for at in range(choose.randrange(5), choose.randrange(20, 500)) if choose.random() < 0.9
        ]
        start_ms = START_MS + choose.randrange(DAY_MS)
        some = some_records(offsets, number, start_ms=start_ms)
        if choose.random() < 0.5:
            some = [
                one._replace(timestamp_ms=one.timestamp_ms - DAY_MS * (one.offset % 250 > 240))
                for one in some
            ]
        records[number] = some
        if layout == "events batches":
            stored = random_layouts(choose, some)
        else:
            stored = random_chain(choose, some) if layout == "batches" else [event(one) for one in some]
        for one in stored:
            assert one.key not in store.objects or "batches" in layout
            store.objects.setdefault(one.key, one)
    target = MemoryTarget(partitions)
    for _ in range(choose.randrange(8)):
        try:
            restore(store, target, path, layout=layout, kill_at=choose.randrange(60) / 2)
        except Killed:
            if choose.random() < 0.2:
                path.unlink()
            elif choose.random() < 0.3:  # its last line was not written whole
                path.write_bytes(path.read_bytes()[: -choose.randrange(1, 20)])
    restore(store, target, path, layout=layout)
    assert [target.restored(number) for number in range(partitions)] == list(records.values())
    assert mapped(path) == target.offsets()


def test_a_restore_that_is_done_sends_nothing_more_and_reads_the_last_object_only(tmp_path: Path) -> None:
    records = some_records(range(1000))
    store = MemoryStore(batch(records[at : at + 100]) for at in range(0, 1000, 100))
    target = MemoryTarget(1)
    restore(store, target, tmp_path / "offsets.jsonl")
    store.read.clear()
    progress = restore(store, target, tmp_path / "offsets.jsonl")
    assert progress.records == 0
    assert store.read == [batch(records[900:]).key]
    assert target.restored(0) == records


def test_objects_that_were_added_later_are_restored_behind_the_others(tmp_path: Path) -> None:
    records = some_records(range(300))
    store = MemoryStore([batch(records[:100])])
    target = MemoryTarget(1)
    restore(store, target, tmp_path / "offsets.jsonl")
    store.objects |= {one.key: one for one in (batch(records[100:200]), batch(records[200:]))}
    assert restore(store, target, tmp_path / "offsets.jsonl").records == 200
    assert target.restored(0) == records


def test_a_batch_that_reaches_further_than_the_next_one_is_found_when_resuming(tmp_path: Path) -> None:
    records = some_records(range(400))
    store = MemoryStore([batch(records[:300]), batch(records[150:200]), batch(records[300:])])
    target = MemoryTarget(1)
    with pytest.raises(Killed):
        restore(store, target, tmp_path / "offsets.jsonl", kill_at=15)
    sent = len(target.restored(0))
    assert 150 < sent < 300, "killed where the second batch starts before, and ends"
    restore(store, target, tmp_path / "offsets.jsonl")
    assert target.restored(0) == records


def test_a_stop_leaves_nothing_in_flight_and_no_gap(tmp_path: Path) -> None:
    records = some_records(range(2000))
    store = MemoryStore([batch(records)])
    target, stop = MemoryTarget(1), threading.Event()
    source = Source("lake", "batches", "prices")

    def observe(progress: Progress) -> None:
        if progress.records:
            stop.set()

    def after(_: RecordBatch) -> None:
        if len(target.records[0]) > 500:
            stop.set()

    path = tmp_path / "offsets.jsonl"
    with ThreadPoolExecutor(2) as pool, OffsetMap(path, str(source), "target") as offset_map:
        reading = Reading(Inventory.of({source: store.list(source.folder)}), store, pool, Findings())
        use_case = RestoreTopic(reading, Encoder("prices", "none", 2_000), None, stop, observe)
        progress = use_case.run({}, Delivery(MemorySender(target, after=after), {0: 0}, offset_map, 5))
    assert progress.interrupted
    assert progress.in_flight == 0
    arrived = target.restored(0)
    assert 0 < len(arrived) < 2000
    assert arrived == records[: len(arrived)]
    restore(store, target, path)
    assert target.restored(0) == records


def changed_layout(*, times: int) -> tuple[list[Record], list[Stored]]:
    """A topic of 150 records whose layout was changed once, or changed and changed back."""
    records = some_records(range(150))
    behind = [batch(records[100:])] if times == 1 else [event(one) for one in records[100:]]
    return records, [*map(event, records[:50]), batch(records[50:100]), *behind]


@pytest.mark.parametrize("file", ["offsets.jsonl", "other.jsonl"])
def test_one_layout_after_the_other_is_restored_if_it_was_changed_once_and_refused_otherwise(
    tmp_path: Path, file: str
) -> None:
    records, stored = changed_layout(times=1)
    store, target = MemoryStore(stored), MemoryTarget(1)
    restore(store, target, tmp_path / "offsets.jsonl", layout="events")
    restore(store, target, tmp_path / file, layout="batches")
    assert restore(store, target, tmp_path / file, layout="events batches").records == 0
    assert target.restored(0) == records
    assert mapped(tmp_path / file) == target.offsets()

    (tmp_path / "offsets.jsonl").unlink()
    records, stored = changed_layout(times=2)
    store, target = MemoryStore(stored), MemoryTarget(1)
    restore(store, target, tmp_path / "offsets.jsonl", layout="events")
    (tmp_path / "other.jsonl").unlink(missing_ok=True)
    for layout in ("batches", "events batches"):
        with pytest.raises(InputError, match=r"00000-0*50.json.gz has records that the target does not have"):
            restore(store, target, tmp_path / file, layout=layout)
    assert restore(store, target, tmp_path / "offsets.jsonl", layout="events").records == 0


@pytest.mark.parametrize(("begin", "end"), [(95, 300), (95, 310), (100, 300), (100, 310)])
def test_layouts_that_overlap_do_not_hide_what_is_missing(tmp_path: Path, begin: int, end: int) -> None:
    records = some_records(range(350))
    stored = [*map(event, records[:100]), batch(records[begin:end]), *map(event, records[300:])]
    store, target = MemoryStore(stored), MemoryTarget(1)
    restore(store, target, tmp_path / "offsets.jsonl", layout="events")
    with pytest.raises(InputError, match="has records that the target does not have"):
        restore(store, target, tmp_path / "offsets.jsonl", layout="events batches")
    target = MemoryTarget(1)
    for _ in range(2):
        restore(store, target, tmp_path / "both.jsonl", layout="events batches")
    assert target.restored(0) == records


def test_records_of_earlier_days_than_those_restored_are_refused(tmp_path: Path) -> None:
    records = some_records(range(90_000, 90_020)) + some_records(range(180_000, 180_020))
    store, target = MemoryStore(map(event, records[20:])), MemoryTarget(1)
    restore(store, target, tmp_path / "offsets.jsonl", layout="events")
    store.objects |= {one.key: one for one in map(event, records[:20])}
    with pytest.raises(InputError, match="an earlier restore was given fewer objects"):
        restore(store, target, tmp_path / "offsets.jsonl", layout="events")


def test_damaged_objects_that_were_left_out_do_not_stop_a_resumed_restore(tmp_path: Path) -> None:
    records = some_records(range(60))
    stored = list(batches(records, 10))
    stored[2] = stored[2]._replace(body=b"x")
    stored[3] = stored[3]._replace(metadata={})
    store, target = MemoryStore(stored), MemoryTarget(1)
    for _ in range(2):
        restore(store, target, tmp_path / "offsets.jsonl", accept=Risk.DAMAGED)
    assert target.restored(0) == [*records[:20], *records[40:]]
    with pytest.raises(InputError, match="--accept damaged"):
        restore(store, target, tmp_path / "offsets.jsonl")


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6)), max_size=8))
def test_restored_offsets_are_counted(some: list[tuple[int, int]]) -> None:
    """Also if two runs of an earlier version have written an offset twice."""
    restored, offsets, end = Restored(), set[int](), 0
    for start, count in sorted(some):
        restored.add(start, count)
        offsets |= {at for at in range(start, start + count) if at >= end}
        end = max(end, start + count)
    for begin in range(40):
        for stop in range(begin, 40):
            assert restored.between(begin, stop) == len(offsets & set(range(begin, stop)))
