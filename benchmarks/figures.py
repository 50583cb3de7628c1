"""The results of a suite: figures with the values of all rounds, and their arithmetic."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Target:
    """The target of a figure: `at least` or `at most` the bound."""

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
        values: one per round; none if it could not be measured, with the reason in `note`.
        unit: of the values; none for a ratio.
        whole: whether everything in `what` was measured; `note` says what was not.
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
        """The median of the rounds."""
        return statistics.median(self.values) if self.values else None

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the target; None without a target, or if not everything was measured.

        A figure that was not measured does not meet its target.
        """
        if self.target is None or not self.whole:
            return None
        return self.median is not None and self.target.met(self.median)


@dataclass(frozen=True)
class Result:
    """The figures of one suite, and notes about this run."""

    figures: Sequence[Figure]
    notes: Sequence[str] = field(default=())


def ratio(
    key: str, what: str, over: Sequence[float], under: Sequence[float], target: Target | None = None
) -> Figure:
    """The ratio of two measurements, round by round: disturbances in a round affect both.

    Raises:
        ValueError: the two have not been measured in the same rounds.
    """
    return Figure(key, what, tuple(one / other for one, other in zip(over, under, strict=True)), "", target)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` (0 to 1) of all values do not exceed; always one of the values.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    # The epsilon prevents 0.07 * 100, slightly more than 7, from being rounded up to 8.
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]
