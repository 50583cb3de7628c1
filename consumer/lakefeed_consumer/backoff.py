"""Exponential backoff with full jitter."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Backoff:
    """Waits between tries, in seconds: random between 0 and `base` doubled each time, `cap` at the most.

    Full jitter spreads the tries of many workers best:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    base: float
    cap: float
    random: random.Random = field(default_factory=random.Random)

    def wait(self, failures: int) -> float:
        """How long to wait after that many failures in a row, from 1 on."""
        # 2**60 seconds are past any cap; without a bound the power itself would grow for ever.
        return self.random.uniform(0, min(self.cap, self.base * 2 ** min(failures - 1, 60)))
