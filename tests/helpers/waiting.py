"""Waits for a condition, with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(
    condition: Callable[[], T],
    timeout: float = 30,
    message: str | Callable[[], str] = "",
    every: float = 0.05,
) -> T:
    """Call a condition until it gives something true, and return that.

    Raises:
        AssertionError: it did not within `timeout` seconds; with the message.
    """
    end = time.monotonic() + timeout
    while True:
        # A look that took long may be an old one: the last begins when the time is up.
        last = time.monotonic() > end
        if result := condition():
            return result
        if last:
            said = message() if callable(message) else message
            raise AssertionError(f"not within {timeout:.0f} s: {said or condition}")
        time.sleep(every)
