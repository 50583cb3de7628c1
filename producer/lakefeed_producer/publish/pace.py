"""Limits the rate of events."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """The events that are due since the start, at a rate; without a rate, all are due at once.

    The n-th event is due n/rate seconds after the start, so that delays are caught up and the mean over a run
    is the rate.
    """

    def __init__(self, rate: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._start = clock()
        self._taken = 0

    def take(self, wanted: int) -> int:
        """Take up to `wanted` events that are due now; returns how many."""
        if self._rate is not None:
            due = int((self._clock() - self._start) * self._rate) - self._taken
            wanted = max(0, min(wanted, due))
        self._taken += wanted
        return wanted

    def wait_seconds(self) -> float:
        """Seconds until the next event is due."""
        if self._rate is None:
            return 0.0
        return max(0.0, self._start + (self._taken + 1) / self._rate - self._clock())
