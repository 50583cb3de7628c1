from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from lakefeed_consumer.backoff import Backoff


@given(st.integers(1, 10_000), st.integers(0, 1000))
def test_waits_double_up_to_the_cap(failures: int, seed: int) -> None:
    wait = Backoff(0.1, 20.0, random.Random(seed)).wait(failures)
    assert 0 <= wait <= min(20.0, 0.1 * 2 ** min(failures - 1, 60))


def test_waits_differ() -> None:
    backoff = Backoff(1.0, 1.0)
    assert len({backoff.wait(1) for _ in range(20)}) > 1
