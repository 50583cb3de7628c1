"""What a compaction reads: the chain of batches, one-event objects, and what is missing."""

from __future__ import annotations

import random

import pytest

from lakefeed_analytics.iceberg.chain import Range, Stored, Watermark, follow, split

DAY = "2026-01-01"


def batch(start: int, end: int) -> Stored:
    return Stored(start, end, f"batch-{start}", DAY, 10, batch=True, first=start)


def event(offset: int) -> Stored:
    return Stored(offset, offset + 1, f"event-{offset}", DAY, 1, batch=False, first=offset)


def read(watermark: Watermark | None, committed: int, *objects: Stored, **options: bool) -> Range | None:
    return follow(0, watermark, committed, objects, "s3://lake/batches/t/", **options)


def spans(found: Range | None) -> list[tuple[int, int]]:
    assert found is not None
    return [(each.start, each.end) for each in found.objects]


def test_batches_are_followed_from_the_watermark_to_the_committed_offset() -> None:
    found = read(Watermark(10, True), 40, batch(30, 40), batch(10, 25), batch(25, 30), batch(40, 50))
    assert spans(found) == [(10, 25), (25, 30), (30, 40)]
    assert found is not None
    assert found.end == Watermark(40, True)
    assert found.hole is None


def test_nothing_new_is_nothing_to_read() -> None:
    assert read(Watermark(10, True), 10) is None
    assert read(Watermark(10), 10) is None
    assert read(None, 0, batch(0, 10)) is None


def test_a_batch_whose_end_is_not_committed_waits() -> None:
    found = read(Watermark(0, True), 15, batch(0, 10), batch(10, 20))
    assert spans(found) == [(0, 10)]
    assert found is not None
    assert found.hole is None


@pytest.mark.parametrize(
    ("objects", "hole"),
    [
        ([batch(20, 30)], "from 10 up to 19"),
        ([batch(10, 20), batch(25, 40)], "from 20 up to 24"),
        ([batch(10, 20)], "from 20 up to 39"),
        ([], "from 10 up to 39"),
        ([batch(10, 20), batch(30, 50)], "from 20 up to 29"),
    ],
)
def test_a_hole_below_the_committed_offset_is_named(objects: list[Stored], hole: str) -> None:
    found = read(Watermark(10, True), 40, *objects)
    assert found is not None
    assert found.hole is not None
    assert hole in found.hole
    assert "partition 0" in found.hole
    assert found.end.offset <= 20, "nothing behind the hole is read"


@pytest.mark.parametrize(
    ("objects", "ends", "end"),
    [
        ([batch(20, 30)], [(20, 30)], Watermark(40, True)),
        ([batch(10, 20), batch(25, 40)], [(10, 20), (25, 40)], Watermark(40, True)),
        # The group's offsets were reset forward, and nothing has come since.
        ([batch(10, 20)], [(10, 20)], Watermark(40, True)),
        ([batch(10, 20), batch(30, 50)], [(10, 20)], Watermark(30, True)),
        ([batch(10, 20), batch(50, 60)], [(10, 20)], Watermark(40, True)),
        ([batch(10, 20), event(25)], [(10, 20), (25, 26)], Watermark(40)),
    ],
)
@pytest.mark.parametrize("open_end", [False, True])
def test_holes_that_are_accepted_are_passed_and_named(
    objects: list[Stored], ends: list[tuple[int, int]], end: Watermark, open_end: bool
) -> None:
    found = read(Watermark(10, True), 40, *objects, accept_holes=True, open_end=open_end)
    assert spans(found) == ends
    assert found is not None
    assert (found.end, found.hole) == (end, None)
    strict = read(Watermark(10, True), 40, *objects)
    assert strict is not None
    assert bool(found.accepted) == (strict.hole is not None)
    assert strict.hole is None or strict.hole in found.accepted


@pytest.mark.parametrize(
    ("objects", "end", "hole"),
    [
        ([], 20, False),
        ([event(22)], 25, False),
        ([batch(22, 25)], 20, True),
        # The layout was changed back, or was never changed: a batch is missing before this one.
        ([batch(22, 30)], 20, True),
        ([batch(27, 30)], 20, True),
    ],
)
def test_behind_the_last_batch_of_a_changed_layout_the_next_object_says_whether_something_is_missing(
    objects: list[Stored], end: int, hole: bool
) -> None:
    found = read(Watermark(10, True), 25, batch(10, 20), *objects, open_end=True)
    assert found is not None
    assert (found.end.offset, found.hole is not None) == (end, hole)


def test_of_an_overlap_only_offsets_from_the_watermark_on_are_read() -> None:
    found = read(Watermark(0), 30, event(5), event(9), batch(5, 20), event(12), batch(20, 30))
    assert spans(found) == [(5, 20), (20, 30)]


def test_a_new_table_starts_at_the_first_object() -> None:
    found = read(None, 40, batch(30, 40), batch(20, 30))
    assert spans(found) == [(20, 30), (30, 40)]
    assert found is not None
    assert found.hole is None


def test_gaps_between_one_event_objects_are_records_that_are_not_valid_events() -> None:
    found = read(Watermark(3), 12, event(3), event(7))
    assert spans(found) == [(3, 4), (7, 8)]
    assert found is not None
    assert found.end == Watermark(12)


def test_a_layout_that_changed_is_followed_over_the_change() -> None:
    found = read(Watermark(0), 30, event(0), event(4), batch(6, 20), batch(20, 24), event(25), event(28))
    assert spans(found) == [(0, 1), (4, 5), (6, 20), (20, 24), (25, 26), (28, 29)]
    assert found is not None
    assert (found.end, found.hole) == (Watermark(30), None)


def test_split_moves_watermarks_in_parts_and_reads_everything_once() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        ranges = []
        for number in range(chance.randrange(4)):
            ends = sorted(chance.sample(range(1, 100), chance.randrange(1, 8)))
            objects = [batch(start, end) for start, end in zip([0, *ends], ends, strict=False)]
            ranges.append(Range(number, 0, Watermark(ends[-1], True), objects))
        parts = list(split(ranges, chance.choice([10, 30, 1000]), chance.choice([1, 3, 100])))
        position = {each.partition: 0 for each in ranges}
        seen = []
        for part in parts:
            for each in part:
                assert each.start == position[each.partition] < each.end.offset
                position[each.partition] = each.end.offset
                seen += [(each.partition, one) for one in each.objects]
        assert position == {each.partition: each.end.offset for each in ranges}
        assert seen == [(each.partition, one) for each in ranges for one in each.objects]
