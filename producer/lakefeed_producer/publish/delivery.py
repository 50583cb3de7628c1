"""Sends the batches of one file, watches their delivery, and gives up when nothing is acknowledged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from lakefeed_common.errors import LakefeedError, RefusedError, UnavailableError
from lakefeed_producer.kafka.batch import EventBatch
from lakefeed_producer.publish.deliveries import Deliveries
from lakefeed_producer.publish.destination import Beat, Publisher
from lakefeed_producer.publish.reporting import Report

# How long a run that is ending waits for acknowledgements.
_GRACE_SECONDS = 10.0
_SNAPSHOT_SECONDS = 0.2
# After this long without an acknowledgement, progress reports a problem.
_SILENCE_SECONDS = 5.0
# Longest wait without checking for a stop.
NAP_SECONDS = 0.1


@dataclass(frozen=True)
class Control:
    """How a caller controls a run.

    Attributes:
        stop: when set, nothing more is sent, and events in flight are waited for.
        beat: called often while a file is prepared; may raise to stop.
        clock: monotonic seconds.
    """

    stop: threading.Event
    beat: Beat = lambda: None
    clock: Callable[[], float] = time.monotonic


class Delivery:
    """The delivery of one file.

    Args:
        publisher: sends the batches.
        control: may stop the run.
        timeout_seconds: how long to wait while the broker acknowledges nothing.
        report: gets the results.
    """

    def __init__(
        self, publisher: Publisher, control: Control, timeout_seconds: float, report: Report
    ) -> None:
        self._publisher = publisher
        self._stop = control.stop
        self._clock = control.clock
        self._report = report
        self._start = self._last_snapshot = control.clock()
        self._silence = _Silence(timeout_seconds, self._start)
        self.deliveries = Deliveries()

    @property
    def is_ending(self) -> bool:
        """Whether nothing more must be sent."""
        return self._stop.is_set() or bool(self._silence.gave_up or self.deliveries.failed)

    def send(self, batch: EventBatch) -> None:
        """Hand a batch to the publisher; blocks while its queue is full.

        Raises:
            LakefeedError: nothing can be sent any more.
        """
        if len(batch) or batch.last_row:
            self.deliveries.add(batch)
            self._publisher.send(batch, self._keep_sending)
        # At once, because batches that are done occupy memory.
        self._settle()
        self._tick()

    def wait(self, seconds: float) -> None:
        """Process acknowledgements, waiting up to `seconds` for the first."""
        self._publisher.wait(seconds)
        self._tick()

    def drain(self) -> None:
        """Wait until every event is acknowledged or has failed; not for long if the run is ending."""
        self._drain_until(None)

    def drain_after_error(self) -> None:
        """Give events in flight a chance to be acknowledged, so that they count."""
        try:
            self._drain_until(self._clock() + (0 if self.deliveries.failed else _GRACE_SECONDS))
        except LakefeedError:
            # A publisher that cannot send any more reports nothing.
            self._settle()

    def _drain_until(self, end: float | None) -> None:
        self._settle()
        while not self.deliveries.empty:
            if end is None and (self._stop.is_set() or self.deliveries.failed):
                end = self._clock() + _GRACE_SECONDS
            if self._silence.gave_up or (end is not None and self._clock() >= end):
                self._publisher.abandon()
                self._settle()
                break
            self.wait(NAP_SECONDS)
            self._settle()
        self._snapshot()

    def undelivered(self) -> LakefeedError:
        """The error that describes the first event that failed."""
        batch, first = self.deliveries.failed[0]
        progress = self._report.progress
        message = (
            f"{progress.file}: {progress.delivered:,} events were delivered, then the broker did not accept "
            f"any more ({self._silence.gave_up or first.reason}). The first undelivered row is "
            f"{batch.rows[first.index]:,}. Run the same command again to resume"
        )
        return UnavailableError(message) if first.retryable else RefusedError(message)

    def _keep_sending(self) -> bool:
        self._tick()
        return not self._stop.is_set() and not self._silence.gave_up

    def _settle(self) -> None:
        self.deliveries.settle()
        self._report.settled(self.deliveries)

    def _tick(self) -> None:
        if self._clock() - self._last_snapshot >= _SNAPSHOT_SECONDS:
            self._snapshot()

    def _snapshot(self) -> None:
        now = self._last_snapshot = self._clock()
        self._settle()
        self._silence.observe(now, self.deliveries, self._publisher)
        self._report.snapshot(self.deliveries, now - self._start, self._silence.trouble)


class _Silence:
    """Detects a broker that acknowledges nothing.

    Attributes:
        trouble: why nothing has been acknowledged for a while; empty if there is no problem.
        gave_up: why the run gave up; empty while it has not.
    """

    def __init__(self, timeout_seconds: float, now: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._last_answer = now
        self._answered = 0
        self.trouble = ""
        self.gave_up = ""

    def observe(self, now: float, deliveries: Deliveries, publisher: Publisher) -> None:
        """Compare with the last call."""
        # Events that were given up are no answer, and leave nothing in flight either.
        if deliveries.answered != self._answered or (deliveries.empty and not deliveries.failed):
            self._last_answer = now
        self._answered = deliveries.answered
        silent = now - self._last_answer
        self.trouble = ""
        if silent >= min(_SILENCE_SECONDS, self._timeout_seconds):
            self.trouble = publisher.trouble or "events are sent but not acknowledged"
        if silent >= self._timeout_seconds and not self.gave_up:
            self.gave_up = f"no acknowledgement for {self._timeout_seconds:g} s: {self.trouble}"
