"""Counts the batches that workers have adopted, by their metrics."""

from __future__ import annotations

import urllib.request

from tests.helpers.services import metric_value

_NAME = "lakefeed_consumer_batches_total"
_SECONDS = 1.0


class Increase:
    """By how much a counter has increased in all processes, as Prometheus calculates it.

    What a process counted after it was asked for the last time is not in it.
    """

    def __init__(self) -> None:
        self.total = 0.0
        self._last: dict[int, float] = {}

    def see(self, port: int, value: float) -> None:
        """Take the value of the process that serves at a port now: a lower one is that of a new process."""
        last = self._last.get(port, 0.0)
        self.total += value - last if value >= last else value
        self._last[port] = value


def adopted(port: int) -> float | None:
    """How many batches the worker has adopted that serves its metrics at a port; None if none does."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=_SECONDS) as answer:
            return metric_value(answer.read().decode(), _NAME, {"outcome": "adopted"})
    except OSError:
        return None
