"""What a suite finds: figures, each with the values of all rounds, and the arithmetic on them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Target:
    """What a figure should reach: `at least` or `at most` the bound."""

    kind: Literal["at least", "at most"]
    bound: float

    def met(self, value: float) -> bool:
        """Whether a value reaches it."""
        return value >= self.bound if self.kind == "at least" else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.kind == 'at least' else '≤'} {self.bound:g}"


@dataclass(frozen=True)
class Figure:
    """One figure of a suite.

    Attributes:
        key: its name in `build/bench.json`.
        what: its row in the table.
        values: one a round; none when it could not be measured, and then `note` says why.
        unit: of the values; none for a ratio.
        whole: whether all was measured that `what` tells of; `note` says what was not.
    """

    key: str
    what: str
    values: tuple[float, ...]
    unit: str = ""
    target: Target | None = None
    note: str = ""
    whole: bool = True

    @property
    def median(self) -> float | None:
        """The middle of the rounds."""
        return statistics.median(self.values) if self.values else None

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the target; None without one, or when not all of it was measured.

        Not measured at all is not met.
        """
        if self.target is None or not self.whole:
            return None
        return self.median is not None and self.target.met(self.median)


@dataclass(frozen=True)
class Result:
    """What one suite found, and what a reader has to know about this very run."""

    figures: Sequence[Figure]
    notes: Sequence[str] = field(default=())


def ratio(
    key: str, what: str, over: Sequence[float], under: Sequence[float], target: Target | None = None
) -> Figure:
    """One measured thing by another, round by round: what disturbs a round disturbs both.

    Raises:
        ValueError: the two have not been measured in the same rounds.
    """
    return Figure(key, what, tuple(one / other for one, other in zip(over, under, strict=True)), "", target)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` (0 to 1) of all values do not exceed; so a real one, none between.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    # The little less keeps 0.07 * 100, a little more than 7, from being taken for 8.
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]
