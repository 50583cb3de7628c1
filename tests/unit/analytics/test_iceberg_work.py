"""Work of a compaction that is spread over other processes."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from pyiceberg.schema import Schema

from lakefeed_analytics.iceberg.chain import Range, Stored, Watermark
from lakefeed_analytics.iceberg.columns import ColumnType, widened
from lakefeed_analytics.iceberg.work import NewKeyError, SpreadWork, Task, Written
from lakefeed_analytics.iceberg.writing import Target
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common.errors import InputError

MEGABYTE = 1_000_000
TARGET = Target("s3://lake/tables/prices", Schema())
SETTINGS = CompactSettings(compact_file_bytes=MEGABYTE, kafka_sasl_password=SecretStr("hidden"))


def part(batches: Sequence[int], partition: int = 0) -> Range:
    """A range of batches of these sizes, with 10 records each."""
    objects = [
        Stored(10 * n, 10 * (n + 1), f"{partition}-{n}", "2026-01-01", size, batch=True)
        for n, size in enumerate(batches)
    ]
    return Range(partition, 0, Watermark(10 * len(batches), True), objects)


def spread(results: Callable[[Task], Any], settings: CompactSettings = SETTINGS) -> SpreadWork:
    """Work that another process would do."""

    def run(_: Callable[[Task], Any], tasks: Sequence[Task]) -> list[Any]:
        copies = [pickle.loads(pickle.dumps(task)) for task in tasks]  # noqa: S301 - our own
        return [results(task) for task in copies]

    return SpreadWork(settings, "prices", run)


@given(st.lists(st.lists(st.integers(0, 2 * MEGABYTE), max_size=8), max_size=4))
def test_tasks_have_each_object_once_and_the_offsets_between(sizes: list[list[int]]) -> None:
    seen: list[Task] = []

    def write(task: Task) -> Written:
        seen.append(task)
        return Written([], sum(len(each.objects) for each in task.part))

    ranges = [part(each, number) for number, each in enumerate(sizes)]
    written = spread(write).write(TARGET, {}, ranges)

    assert written.unfit == sum(map(len, sizes))
    pieces = [each for task in seen for each in task.part]
    assert [one for each in pieces for one in each.objects] == [
        one for each in ranges for one in each.objects
    ]
    for number, each in enumerate(ranges):
        edges = [(piece.start, piece.end.offset) for piece in pieces if piece.partition == number]
        assert [start for start, _ in edges] == [0, *(end for _, end in edges)][: len(edges)]
        assert not each.objects or edges[-1][1] == each.end.offset
    for task in seen:
        # One object may be larger than a data file.
        assert sum(one.size for each in task.part for one in each.objects[:-1]) < 2 * MEGABYTE


def test_tasks_do_not_get_the_password_of_kafka() -> None:
    seen: list[Task] = []

    def write(task: Task) -> Written:
        seen.append(task)
        return Written([], 0)

    spread(write).write(TARGET, {}, [part([1])])
    assert seen[0].settings.kafka_sasl_password is None
    assert seen[0].settings.bucket == SETTINGS.bucket
    assert b"hidden" not in pickle.dumps(seen)


@pytest.mark.parametrize("error", [InputError("s3://lake/x: damaged"), NewKeyError()])
def test_an_error_that_is_a_result_is_raised(error: Exception) -> None:
    def write(task: Task) -> Any:
        return error if task.part[0].start else Written([], 0)

    with pytest.raises(type(error)) as raised:
        spread(write).write(TARGET, {}, [part([MEGABYTE] * 3)])
    assert raised.value.args == error.args


_FOUND = st.lists(
    st.tuples(st.sampled_from(["a", "A", "b", "c", "dt"]), st.sampled_from(ColumnType)), max_size=6
)


@given(st.lists(_FOUND, min_size=1, max_size=6))
def test_columns_of_tasks_are_those_of_one_process(found: list[list[tuple[str, ColumnType]]]) -> None:
    known = {"b": ColumnType.LONG}
    work = spread(lambda task: widened(known, found[task.part[0].start // 10]))

    together = work.found_columns(known, [part([MEGABYTE] * len(found))])

    alone = widened(known, [one for each in found for one in each])
    assert list(together.items()) == list(alone.items())
