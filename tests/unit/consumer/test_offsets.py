from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed_consumer.sink.offsets import OffsetRun

offsets = st.lists(st.integers(0, 500), unique=True, min_size=1).map(sorted)


@given(offsets, st.randoms(use_true_random=False))
def test_reported_offsets_never_pass_an_unstored_one(taken: list[int], rng: random.Random) -> None:
    run = OffsetRun()
    for offset in taken:
        run.take(offset)
    waiting = set(taken)
    reports = []
    for offset in rng.sample(taken, len(taken)):
        waiting.discard(offset)
        reached = run.store(offset)
        if reached is not None:
            reports.append(reached)
            assert not [left for left in waiting if left <= reached]
        elif waiting:
            assert min(waiting) < offset
    assert reports == sorted(set(reports))
    assert reports[-1] == taken[-1]


@given(offsets, st.randoms(use_true_random=False))
def test_taking_and_storing_may_interleave(taken: list[int], rng: random.Random) -> None:
    run, reached = OffsetRun(), -1
    open_offsets: list[int] = []
    queue = list(taken)
    while queue or open_offsets:
        if queue and (not open_offsets or rng.random() < 0.5):
            open_offsets.append(queue.pop(0))
            run.take(open_offsets[-1])
        else:
            now = run.store(open_offsets.pop(rng.randrange(len(open_offsets))))
            reached = reached if now is None else now
            assert all(offset > reached for offset in open_offsets)
    assert reached == taken[-1]


def test_a_gap_in_the_offsets_is_not_an_unstored_event() -> None:
    run = OffsetRun()
    run.take(5)
    run.take(900)
    assert run.store(900) is None
    assert run.store(5) == 900


@pytest.mark.parametrize("again", [3, 2])
def test_offsets_must_rise(again: int) -> None:
    run = OffsetRun()
    run.take(3)
    with pytest.raises(ValueError, match=f"offset {again} after 3"):
        run.take(again)


def test_an_ended_run_reports_nothing() -> None:
    run = OffsetRun()
    run.take(1)
    run.end()
    assert run.store(1) is None
