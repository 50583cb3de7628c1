"""A steady rate: how many items are due by now."""

from __future__ import annotations

import time

TICK_SECONDS = 0.001


class Pace:
    """From its creation on, `rate` items per second become due, `total` overall."""

    def __init__(self, rate: float, total: int) -> None:
        self._rate = rate
        self._total = total
        self._began = time.monotonic()
        self._taken = 0

    def due(self) -> range:
        """The indices of the items that became due since the last call."""
        first = self._taken
        self._taken = min(self._total, int((time.monotonic() - self._began) * self._rate))
        return range(first, self._taken)

    @property
    def over(self) -> bool:
        """Whether all items have become due."""
        return self._taken == self._total
