"""Liveness from heartbeats of the work loops, readiness from the state of each dependency."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lakefeed_common.metrics import ServiceMetrics

log = logging.getLogger(__name__)

# One outage may have two reasons in turn: some requests are refused, others are cut off.
_SECONDS_BETWEEN_LINES = 60.0


@dataclass(frozen=True)
class Report:
    """The result of a health check; `reasons` maps what failed to the reason."""

    ok: bool
    reasons: dict[str, str]

    @property
    def status(self) -> int:
        """The HTTP status: 200 or 503."""
        return 200 if self.ok else 503


class Health:
    """The state behind `/healthz` and `/readyz`. Thread-safe.

    Args:
        metrics: `lakefeed_ready` is set for each dependency.
        dependencies: what the service needs; each one is initially not ready.
        stall_seconds: maximum time between two heartbeats of a work loop.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        metrics: ServiceMetrics,
        dependencies: Iterable[str],
        *,
        stall_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._stall_seconds = stall_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._beats: dict[str, float] = {}
        self._reasons: dict[str, str | None] = {}
        # When each reason of the present outage was logged.
        self._logged: dict[str, dict[str, float]] = {}
        for dependency in dependencies:
            self._reasons[dependency] = "not reached yet"
            metrics.ready.labels(dependency).set(0)

    def beat(self, loop: str) -> None:
        """Record a heartbeat of a work loop, which is monitored from its first one on."""
        self._beats[loop] = self._clock()

    def retire(self, loop: str) -> None:
        """Stop monitoring a work loop that has ended."""
        self._beats.pop(loop, None)

    def ready(self, dependency: str) -> None:
        """Mark a dependency as usable."""
        self._set(dependency, None)

    def unready(self, dependency: str, reason: str) -> None:
        """Mark a dependency as unusable; logged if the reason changes, each reason at most once a minute."""
        self._set(dependency, reason)

    def _set(self, dependency: str, reason: str | None) -> None:
        with self._lock:
            before = self._reasons.get(dependency)
            self._reasons[dependency] = reason
            self._metrics.ready.labels(dependency).set(reason is None)
            is_news = reason != before and self._is_due(dependency, reason)
        if not is_news:
            return
        if reason is None:
            log.info("%s can be used", dependency)
        else:
            log.warning("%s cannot be used: %s", dependency, reason)

    def _is_due(self, dependency: str, reason: str | None) -> bool:
        if reason is None:
            self._logged.pop(dependency, None)
            return True
        now = self._clock()
        logged = self._logged.setdefault(dependency, {})
        if now - logged.get(reason, -math.inf) < _SECONDS_BETWEEN_LINES:
            return False
        logged[reason] = now
        return True

    def liveness(self) -> Report:
        """Fails if the last heartbeat of a work loop is too old."""
        now = self._clock()
        stalled = {
            loop: f"silent for {now - beat:.0f} s"
            for loop, beat in list(self._beats.items())
            if now - beat > self._stall_seconds
        }
        return Report(not stalled, stalled)

    def readiness(self) -> Report:
        """Fails while a dependency cannot be used."""
        with self._lock:
            reasons = {name: reason for name, reason in self._reasons.items() if reason is not None}
        return Report(not reasons, reasons)
