"""Stops the consumer when the topic as a whole is broken: copying it into dead letters would not help."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from lakefeed_common.errors import InputError
from lakefeed_common.lake.records import Record

# The window moves by this fraction of itself, so counting costs the same at any rate of events.
_SLOTS = 60


class DeadLetterLimitError(InputError):
    """More dead letters within the window than the settings allow."""


@dataclass(slots=True)
class _Slot:
    began: float
    events: int = 0
    dead: int = 0


class DeadLetterLimit:
    """Counts recent events, and the dead letters among them.

    Args:
        number, share: both must be exceeded: a few invalid records in a slow topic do not stop the consumer,
            nor do many that are a small share. A share of 1 is never exceeded.
        window_seconds: how far back it counts.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        number: int,
        share: float,
        window_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._number = number
        self._share = share
        self._window_seconds = window_seconds
        self._clock = clock
        self._slots: deque[_Slot] = deque()
        self._begin_slot(clock())
        self._exceeded: DeadLetterLimitError | None = None

    def count(self, record: Record, reason: str | None) -> None:
        """Count a record; `reason` says why it is a dead letter, None for an event.

        Raises:
            DeadLetterLimitError: this dead letter exceeds the limit, and so does each later one.
        """
        slot = self._slot()
        slot.events += 1
        if reason is not None:
            slot.dead += 1
            self._forget_before(self._clock() - self._window_seconds)
            self._check(record, reason)

    def _slot(self) -> _Slot:
        now = self._clock()
        if now > self._slot_ends:
            self._begin_slot(now)
            self._forget_before(now - self._window_seconds)
        return self._last_slot

    def _begin_slot(self, now: float) -> None:
        self._last_slot = _Slot(now)
        self._slots.append(self._last_slot)
        self._slot_ends = now + self._window_seconds / _SLOTS

    def count_events(self, number: int) -> None:
        """Count this many events at once."""
        self._slot().events += number

    def _forget_before(self, began: float) -> None:
        while self._slots[0].began < began:
            self._slots.popleft()

    def _check(self, record: Record, reason: str) -> None:
        if self._exceeded is None:
            events = sum(slot.events for slot in self._slots)
            dead = sum(slot.dead for slot in self._slots)
            if dead > max(self._number, self._share * events):
                self._exceeded = DeadLetterLimitError(self._explain(dead, events, record, reason))
        if self._exceeded is not None:
            raise self._exceeded

    def _explain(self, dead: int, events: int, record: Record, reason: str) -> str:
        topic, partition = record.partition
        return (
            f"stopped because topic {topic} is broken: {dead} of {events} events read within "
            f"{self._window_seconds:g} s are dead letters, for example partition {partition}, offset "
            f"{record.offset}: {reason}. What was not stored will be read again. "
            f"See `lakefeed-consumer dead-letters list --topic {topic}` and fix the producer, or raise "
            f"LAKEFEED_DEAD_LETTER_LIMIT={self._number} or LAKEFEED_DEAD_LETTER_LIMIT_SHARE={self._share:g}; "
            "the consumer stops only when both are exceeded."
        )
