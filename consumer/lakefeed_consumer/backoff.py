"""Exponential backoff with full jitter."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Backoff:
    """Waits between attempts, in seconds: random between 0 and `base`, which doubles up to `cap`.

    Full jitter spreads the attempts of many workers best:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    base: float
    cap: float
    random: random.Random = field(default_factory=random.Random)

    def wait(self, failures: int) -> float:
        """How long to wait after this many failures in a row, at least 1."""
        # 2**60 seconds exceed any cap; without this bound the power would grow forever.
        return self.random.uniform(0, min(self.cap, self.base * 2 ** min(failures - 1, 60)))
