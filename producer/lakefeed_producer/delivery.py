"""Hands events to Kafka and keeps account of what has been acknowledged."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from lakefeed_producer.arrivals import Publication
from lakefeed_producer.record_batches import Cutter, RecordBatch
from lakefeed_producer.records import Positions
from lakefeed_producer.rejects import Reject
from lakefeed_producer.sender import Refusal, Sender
from lakefeed_producer.texts import Joined, Texts

# What a record costs on the wire besides its key, value and headers: a batch of one record has a
# header of 61 bytes, a record lengths and deltas of variable size.
RECORD_OVERHEAD = 61 + 6 * 5 + 3 * 2 * 5
# Kafka's own default of `max.message.bytes` is a little more; taken when it may not be asked.
DEFAULT_MAX_MESSAGE_BYTES = 1_000_000


@dataclass(frozen=True)
class Undelivered:
    """An event that the broker did not take."""

    index: int
    too_large: bool
    retryable: bool
    reason: str


def _cannot_reject(row: int, reason: str) -> Reject:
    raise AssertionError(f"row {row}: {reason}")


@dataclass
class Batch:
    """Some consecutive events of one file, sent together and accounted for together.

    Attributes:
        publication: what they belong to, for the headers.
        rows: data row number of each event, ascending.
        partitions, values, keys: the records; an empty key is none.
        last_row: all rows of the file up to here are in this batch, in an earlier one, or rejected.
        reject: makes the reject for the event of a row number that is too large.
        bytes: size of the values.
        waiting: events neither acknowledged nor failed.
        answered: events that the broker acknowledged, or refused for their size.
        failed: what the broker did not take.
        seconds: time between sending and the last event's acknowledgement.
    """

    publication: Publication
    rows: Positions
    partitions: Positions
    values: Joined
    keys: Texts | None
    last_row: int
    reject: Callable[[int, str], Reject] = field(default=_cannot_reject)
    bytes: int = field(init=False)
    waiting: int = field(init=False)
    answered: int = field(init=False, default=0)
    failed: list[Undelivered] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.waiting = len(self.values)
        self.bytes = int(self.values.lengths().sum())

    def __len__(self) -> int:
        return len(self.values)

    def acknowledge(self, count: int, seconds: float = 0.0) -> None:
        """So many events are there, this long after they were sent."""
        self.waiting -= count
        self.answered += count
        if not self.waiting:
            self.seconds = seconds

    def fail(self, indices: Iterable[int], reason: str, *, too_large: bool, retryable: bool) -> None:
        """The broker did not take these events."""
        for index in indices:
            self.waiting -= 1
            self.answered += too_large
            self.failed.append(Undelivered(index, too_large, retryable, reason))


class Publisher(Protocol):
    """Where events go. One thread uses it."""

    max_event_bytes: int
    """Largest sum of key, value and headers that is taken."""

    def send(self, batch: Batch, go_on: Callable[[], bool]) -> None:
        """Take all events of a batch; those left when `go_on` says no are dropped.

        It is asked now and then while the queue is full.

        Raises:
            LakefeedError: nothing can be sent any more.
        """

    def wait(self, seconds: float) -> None:
        """Serve delivery reports for so long, or until some came."""

    def abandon(self) -> None:
        """Give up all events that have not been acknowledged: each is reported as failed."""

    @property
    def trouble(self) -> str:
        """What the connection last suffered from; empty if nothing."""


class Account:
    """What became of the batches of one file: counts and the position up to which all is done."""

    def __init__(self) -> None:
        self.position = 0
        self.added = 0
        self.delivered = 0
        self.undelivered = 0
        self.failed: list[tuple[Batch, Undelivered]] = []
        self.too_large: list[tuple[Batch, Undelivered]] = []
        self._bytes = 0
        self._seconds: list[float] = []
        self._answered = 0
        self._open: deque[Batch] = deque()

    def add(self, batch: Batch) -> None:
        """Expect reports for a batch."""
        self._open.append(batch)
        self.added += len(batch)

    @property
    def in_flight(self) -> int:
        """Events that wait for an acknowledgement."""
        return sum(batch.waiting for batch in self._open)

    @property
    def answered(self) -> int:
        """Events that the broker acknowledged, or refused for their size."""
        return self._answered + sum(batch.answered for batch in self._open)

    @property
    def empty(self) -> bool:
        """Whether each event has been acknowledged or has failed."""
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
        """Take the finished batches at the head into account.

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
            # With several partitions failures arrive in any order.
            for undelivered in sorted(batch.failed, key=lambda failure: failure.index):
                kept = self.too_large if undelivered.too_large else self.failed
                kept.append((batch, undelivered))
            if not self.failed:
                self.position = batch.last_row
            else:
                first, undelivered = self.failed[0]
                self.position = max(self.position, int(first.rows[undelivered.index]) - 1)


# So many bytes of record batches wait for their acknowledgement, or two of the largest. Bounded by bytes, so
# that long rows do not take more memory than short ones.
_QUEUE_BYTES = 4 << 20


class KafkaPublisher:
    """Sends to one topic, idempotently, acknowledged by all replicas.

    Args:
        start: makes what sends record batches.
        max_message_bytes: the topic's `max.message.bytes`.
        compression: codec of the batches.
    """

    def __init__(
        self, start: Callable[[], Sender], *, max_message_bytes: int, compression: str = "none"
    ) -> None:
        self.max_event_bytes = max_message_bytes - RECORD_OVERHEAD
        self._start = start
        self._cutter = Cutter(compression, max_message_bytes)
        self._most_queued = max(_QUEUE_BYTES, 2 * max_message_bytes)
        self._sender: Sender | None = None
        self._waiting: dict[RecordBatch, float] = {}
        self._queued = 0

    @property
    def trouble(self) -> str:
        """What the connection last suffered from; see `Publisher`."""
        return self._sender.trouble if self._sender else ""

    def open(self) -> Sender:
        """Connect, if that has not been done yet; does not wait for it."""
        if self._sender is None:
            self._sender = self._start()
        return self._sender

    def send(self, batch: Batch, go_on: Callable[[], bool]) -> None:
        """Hand the events to the sender as record batches; see `Publisher`."""
        sender = self.open()
        cuts = deque(self._cutter.cut(batch))
        while cuts:
            while self._queued >= self._most_queued:
                self.wait(0.05)
                if not go_on():
                    for cut in cuts:
                        batch.fail(cut.indices(), "it was not sent any more", too_large=False, retryable=True)
                    return
            records = self._cutter.encode(batch, cuts.popleft())
            self._queued += records.size
            self._waiting[records] = time.monotonic()
            sender.put(records)
        self.wait(0)

    def wait(self, seconds: float) -> None:
        """Serve delivery reports; see `Publisher`."""
        if self._sender is None:
            time.sleep(seconds)
            return
        self._serve(self._sender, seconds)
        if self._sender.broken is not None:
            raise self._sender.broken

    def _serve(self, sender: Sender, seconds: float) -> None:
        try:
            report = sender.reports.get(timeout=seconds) if seconds else sender.reports.get_nowait()
            while True:
                self._take(*report)
                report = sender.reports.get_nowait()
        except queue.Empty:
            pass

    def _take(self, records: RecordBatch, refused: list[Refusal]) -> None:
        batch, sent = records.batch, self._waiting.pop(records)
        self._queued -= records.size
        failed = 0
        for refusal in refused:
            indices = refusal.cut.indices()
            batch.fail(indices, refusal.reason, too_large=refusal.too_large, retryable=refusal.retryable)
            failed += len(indices)
        batch.acknowledge(len(records.cut) - failed, time.monotonic() - sent)

    def abandon(self) -> None:
        """Stop the sender, so that nothing of it arrives later; see `Publisher`."""
        if self._sender is None:
            return
        self._sender.stop()
        self._serve(self._sender, 0)
        self._sender = None
        for records in list(self._waiting):
            refusal = Refusal(records.cut, "it was given up", too_large=False, retryable=True)
            self._take(records, [refusal])
