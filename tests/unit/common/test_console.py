"""Tests of what all command lines share."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from lakefeed_common.console import stop_on_signals


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Pytest's own handlers afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop(number: signal.Signals) -> None:
    stop = stop_on_signals()
    assert not stop.is_set()
    signal.raise_signal(number)
    assert stop.wait(10)
    signal.raise_signal(number)  # a second one changes nothing


def test_a_signal_that_comes_inside_of_a_wait_is_heard() -> None:
    stop = stop_on_signals()
    with stop._cond:  # type: ignore[attr-defined]  # private; as `wait` holds it for a moment
        signal.raise_signal(signal.SIGTERM)
    assert stop.wait(10)
