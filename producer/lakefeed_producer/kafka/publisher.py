"""Sends batches of events to one Kafka topic."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable

from lakefeed_producer.kafka.batch import EventBatch
from lakefeed_producer.kafka.record_batches import RecordBatch, RecordBatchEncoder
from lakefeed_producer.kafka.sender import Refusal, Sender

# What a record adds to its key, value and headers: a record batch of one record has a header of 61 bytes, a
# record has lengths and deltas of variable size.
RECORD_OVERHEAD = 61 + 6 * 5 + 3 * 2 * 5
# Slightly below Kafka's default of `max.message.bytes`; used if the topic's configuration is not readable.
DEFAULT_MAX_MESSAGE_BYTES = 1_000_000
# How many bytes of record batches may wait for their acknowledgement, but always two of the largest. Bounded
# by bytes, so that long rows do not take more memory than short ones.
_QUEUE_BYTES = 4 << 20


class KafkaPublisher:
    """Sends to one topic, idempotently, with acknowledgements of all replicas. Not thread-safe.

    Args:
        start: creates and starts a sender of record batches.
        max_message_bytes: the topic's `max.message.bytes`.
        compression: codec of the record batches.

    Attributes:
        max_event_bytes: the largest sum of key, value and headers that is accepted.
    """

    def __init__(
        self, start: Callable[[], Sender], *, max_message_bytes: int, compression: str = "none"
    ) -> None:
        self.max_event_bytes = max_message_bytes - RECORD_OVERHEAD
        self._start = start
        self._encoder = RecordBatchEncoder(compression, max_message_bytes)
        self._max_queued_bytes = max(_QUEUE_BYTES, 2 * max_message_bytes)
        self._sender: Sender | None = None
        self._waiting: dict[RecordBatch, tuple[EventBatch, float]] = {}
        self._queued_bytes = 0

    @property
    def trouble(self) -> str:
        """The last problem of the connection; empty if there is none."""
        return self._sender.trouble if self._sender else ""

    def open(self) -> Sender:
        """Start the sender if it is not running; does not wait for a connection."""
        if self._sender is None:
            self._sender = self._start()
        return self._sender

    def send(self, batch: EventBatch, keep_sending: Callable[[], bool]) -> None:
        """Queue all events of a batch; those left when `keep_sending` returns False are failed.

        It is called periodically while the queue is full.

        Raises:
            LakefeedError: nothing can be sent any more.
        """
        sender = self.open()
        parts = deque(self._encoder.split(batch))
        while parts:
            while self._queued_bytes >= self._max_queued_bytes:
                self.wait(0.05)
                if not keep_sending():
                    for part in parts:
                        batch.fail(part.indices(), "it was not sent", too_large=False, retryable=True)
                    return
            records = self._encoder.encode(batch, parts.popleft())
            self._queued_bytes += records.size
            self._waiting[records] = batch, time.monotonic()
            sender.put(records)
        self.wait(0)

    def wait(self, seconds: float) -> None:
        """Process delivery reports, waiting up to `seconds` for the first.

        Raises:
            LakefeedError: nothing can be sent any more.
        """
        if self._sender is None:
            time.sleep(seconds)
            return
        self._process_reports(self._sender, seconds)
        if self._sender.broken is not None:
            raise self._sender.broken

    def _process_reports(self, sender: Sender, seconds: float) -> None:
        try:
            report = sender.reports.get(timeout=seconds) if seconds else sender.reports.get_nowait()
            while True:
                self._settle(report.records, report.refused)
                report = sender.reports.get_nowait()
        except queue.Empty:
            pass

    def _settle(self, records: RecordBatch, refused: list[Refusal]) -> None:
        batch, sent = self._waiting.pop(records)
        self._queued_bytes -= records.size
        failed = 0
        for refusal in refused:
            indices = refusal.part.indices()
            batch.fail(indices, refusal.reason, too_large=refusal.too_large, retryable=refusal.retryable)
            failed += len(indices)
        batch.acknowledge(len(records.part) - failed, time.monotonic() - sent)

    def abandon(self) -> None:
        """Stop sending: each event without an acknowledgement fails, and none arrives later."""
        if self._sender is None:
            return
        self._sender.stop()
        self._process_reports(self._sender, 0)
        self._sender = None
        for records in list(self._waiting):
            refusal = Refusal(records.part, "it was given up", too_large=False, retryable=True)
            self._settle(records, [refusal])
