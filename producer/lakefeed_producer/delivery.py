"""Hands events to Kafka and keeps account of what has been acknowledged."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException

from lakefeed_common.errors import LakefeedError, RefusedError, UnavailableError
from lakefeed_producer.arrivals import Publication
from lakefeed_producer.rejects import Reject

# What a record costs on the wire besides its key, value and headers: a batch of one record has a
# header of 61 bytes, a record lengths and deltas of variable size.
RECORD_OVERHEAD = 61 + 6 * 5 + 3 * 2 * 5


@dataclass(frozen=True)
class Undelivered:
    """An event that the broker did not take."""

    index: int
    too_large: bool
    retryable: bool
    reason: str


def _cannot_reject(index: int, row: int, reason: str) -> Reject:
    raise AssertionError(f"row {row} (event {index}): {reason}")


@dataclass
class Batch:
    """Some consecutive events of one file, sent together and accounted for together.

    Attributes:
        publication: what they belong to, for the headers.
        rows: data row number of each event, ascending.
        partitions, values, keys: the records.
        last_row: all rows of the file up to here are in this batch, in an earlier one, or rejected.
        reject: makes the reject for the event of an index and row number that is too large.
        waiting: events neither acknowledged nor failed.
        failed: what the broker did not take.
        seconds: time between the last event's sending and its acknowledgement.
    """

    publication: Publication
    rows: Sequence[int]
    partitions: Sequence[int]
    values: Sequence[bytes]
    keys: Sequence[bytes | None]
    last_row: int
    reject: Callable[[int, int, str], Reject] = field(default=_cannot_reject)
    waiting: int = 0
    failed: list[Undelivered] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.waiting = len(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def drop(self, index: int) -> None:
        """The events from this one on are not sent any more."""
        for unsent in range(index, len(self)):
            self.report(unsent, KafkaError(KafkaError._PURGE_QUEUE), None)

    def report(self, index: int, error: KafkaError | None, message: Any) -> None:
        """The delivery report of one event."""
        self.waiting -= 1
        if error is not None:
            self.failed.append(_undelivered(index, error))
        elif not self.waiting:
            self.seconds = message.latency() or 0.0


def _undelivered(index: int, error: KafkaError) -> Undelivered:
    too_large = error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE)
    temporary = error.retriable() or error.code() in (
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
    )
    gone = error.code() in (
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    )
    return Undelivered(index, too_large, temporary or gone, "the topic was removed" if gone else error.str())


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
            self._bytes += sum(map(len, batch.values))
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
                self.position = max(self.position, first.rows[undelivered.index] - 1)


def headers(publication: Publication) -> list[tuple[str, bytes]]:
    """The headers that all records of a publication have; `row` comes behind."""
    return [("source", publication.source), ("publication", publication.mark)]


class KafkaPublisher:
    """Sends to one topic, idempotently, acknowledged by all replicas.

    Args:
        config: connection settings of librdkafka.
        topic: where the records go.
        max_message_bytes: the topic's `max.message.bytes`.
        compression: codec of the batches.
        on_trouble: told what librdkafka says when the connection has a problem.
        trouble: says in words what it said last.
    """

    def __init__(
        self,
        config: dict[str, Any],
        topic: str,
        *,
        max_message_bytes: int,
        compression: str = "none",
        on_trouble: Callable[[KafkaError], None] = lambda _: None,
        trouble: Callable[[], str] = lambda: "",
    ) -> None:
        self.max_event_bytes = max_message_bytes - RECORD_OVERHEAD
        self._topic = topic
        self._fatal: KafkaError | None = None
        self._on_trouble = on_trouble
        self._trouble_in_words = trouble
        self._producer = confluent_kafka.Producer(
            {
                **config,
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": compression,
                "linger.ms": 5,
                # Bounded by bytes, so that long rows do not take more memory than short ones.
                "queue.buffering.max.messages": 100_000,
                "queue.buffering.max.kbytes": max(65_536, 2 * max_message_bytes // 1024),
                "message.max.bytes": min(max(max_message_bytes, 1_000), 1_000_000_000),
                "batch.size": min(max_message_bytes, 1_000_000),
                # A single event never times out, as later ones of its partition could still arrive: what
                # has arrived of a partition's events has no holes. Whoever waits gives up all at once.
                "message.timeout.ms": 0,
                "error_cb": self._note,
            }
        )

    @property
    def trouble(self) -> str:
        """What the connection last suffered from; see `Publisher`."""
        return self._trouble_in_words()

    def _note(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = error
        self._on_trouble(error)

    def send(self, batch: Batch, go_on: Callable[[], bool]) -> None:
        """Hand the events to librdkafka; see `Publisher`."""
        produce, topic, report = self._producer.produce, self._topic, batch.report
        common = headers(batch.publication)
        events = zip(batch.values, batch.keys, batch.partitions, batch.rows, strict=True)
        for index, (value, key, partition, row) in enumerate(events):
            while True:
                try:
                    produce(
                        topic,
                        value,
                        key,
                        partition,
                        headers=[*common, ("row", b"%d" % row)],
                        on_delivery=partial(report, index),
                    )
                    break
                except BufferError:
                    self._poll(0.05)
                    if not go_on():
                        batch.drop(index)
                        return
                except KafkaException as error:
                    self._refused(batch, index, error.args[0])
                    break
        self._poll(0)

    def _refused(self, batch: Batch, index: int, error: KafkaError) -> None:
        if error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
            batch.drop(index)
            self._poll(0)  # tells the cause of a fatal error
            raise explain_delivery(self._fatal or error)
        batch.report(index, error, None)

    def wait(self, seconds: float) -> None:
        """Serve delivery reports; see `Publisher`."""
        self._poll(seconds)
        if self._fatal is not None:
            raise explain_delivery(self._fatal)

    def _poll(self, seconds: float) -> None:
        try:
            self._producer.poll(seconds)
        except KafkaException as error:  # the client cannot be used any more
            raise explain_delivery(error.args[0]) from None

    def abandon(self) -> None:
        """Purge the queues; see `Publisher`."""
        self._producer.purge()
        self._producer.flush(5)

    def usable(self, timeout_seconds: float) -> bool:
        """Whether the broker answers now and has the topic."""
        try:
            # Asking for the topic by its name could make it.
            return self._topic in self._producer.list_topics(timeout=timeout_seconds).topics
        except KafkaException:
            return False


def explain_delivery(error: KafkaError) -> LakefeedError:
    """An error of sending in our own words."""
    # Without a right to write to any topic a broker refuses what makes sending idempotent.
    if error.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED):
        return RefusedError(
            f"the broker does not allow this user to write to the topic ({error.str()}). Allow it to "
            "WRITE and READ the topic"
        )
    if error.retriable():
        return UnavailableError(f"the broker takes no more events: {error.str()}")
    return RefusedError(f"the broker takes no more events: {error.str()}")
