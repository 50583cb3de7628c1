"""Keeps account of the batches of one file until each event is acknowledged or has failed."""

from __future__ import annotations

from collections import deque

from lakefeed_producer.kafka.batch import EventBatch, Undelivered


class Deliveries:
    """The batches of one file: counts, and the position up to which every row is done.

    Attributes:
        position: every row up to this one is delivered, rejected or already in the topic.
        added: events handed to the publisher.
        delivered: events acknowledged.
        undelivered: events that the broker did not accept.
        failed: events that failed for another reason than their size.
        too_large: events that the broker refused for their size.
    """

    def __init__(self) -> None:
        self.position = 0
        self.added = 0
        self.delivered = 0
        self.undelivered = 0
        self.failed: list[tuple[EventBatch, Undelivered]] = []
        self.too_large: list[tuple[EventBatch, Undelivered]] = []
        self._bytes = 0
        self._seconds: list[float] = []
        self._answered = 0
        self._open: deque[EventBatch] = deque()

    def add(self, batch: EventBatch) -> None:
        """Expect delivery reports for a batch."""
        self._open.append(batch)
        self.added += len(batch)

    @property
    def in_flight(self) -> int:
        """Events neither acknowledged nor failed."""
        return sum(batch.waiting for batch in self._open)

    @property
    def answered(self) -> int:
        """Events that the broker acknowledged, or refused for their size."""
        return self._answered + sum(batch.answered for batch in self._open)

    @property
    def empty(self) -> bool:
        """Whether every event has been acknowledged or has failed."""
        return not self._open

    def take_bytes(self) -> int:
        """Size of the values acknowledged since the last call."""
        taken, self._bytes = self._bytes, 0
        return taken

    def take_seconds(self) -> list[float]:
        """Delivery times sampled since the last call."""
        taken, self._seconds = self._seconds, []
        return taken

    def settle(self) -> None:
        """Count the finished batches at the head of the queue.

        The position stays before the first event that failed for another reason than its size.
        """
        while self._open and not self._open[0].waiting:
            batch = self._open.popleft()
            self.delivered += len(batch) - len(batch.failed)
            self.undelivered += len(batch.failed)
            self._answered += batch.answered
            self._bytes += batch.bytes
            if batch.seconds:
                self._seconds.append(batch.seconds)
            # With several partitions, failures are reported in any order.
            for undelivered in sorted(batch.failed, key=lambda failure: failure.index):
                kept = self.too_large if undelivered.too_large else self.failed
                kept.append((batch, undelivered))
            if not self.failed:
                self.position = batch.last_row
            else:
                first, undelivered = self.failed[0]
                self.position = max(self.position, int(first.rows[undelivered.index]) - 1)
