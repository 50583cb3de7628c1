"""Sends record batches, within a limit of bytes, and accounts for each when it is acknowledged."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from lakefeed_common.errors import LakefeedError, RefusedError, UnavailableError
from lakefeed_producer.errors import BusyError
from lakefeed_producer.kafka.record_batches import RecordBatch
from lakefeed_producer.kafka.sender import Report
from lakefeed_producer.restore.offset_map import OffsetMap
from lakefeed_producer.restore.records import Columns

QUEUE_BYTES = 8 << 20
# How long a run that is ending waits for acknowledgements.
_GRACE_SECONDS = 10.0
_NAP_SECONDS = 0.1


class Sender(Protocol):
    """Sends record batches in order; see `kafka.sender.Sender`."""

    @property
    def reports(self) -> queue.Queue[Report]:
        """One report for each record batch when it is done."""

    @property
    def trouble(self) -> str:
        """The last problem of the connection; empty if there is none."""

    @property
    def broken(self) -> LakefeedError | None:
        """Why nothing can be sent any more."""

    def put(self, records: RecordBatch) -> None:
        """Queue a record batch; a report will follow."""


class Delivery:
    """What is sent to one topic.

    Args:
        sender: sends it.
        ends: end offset of each partition of the target at the start: nothing else may be appended.
        offset_map: gets each record that was acknowledged.
        timeout_seconds: how long to wait while the broker acknowledges nothing.
        tick: called often, also while waiting.

    Attributes:
        records: acknowledged so far.
    """

    def __init__(
        self,
        sender: Sender,
        ends: Mapping[int, int],
        offset_map: OffsetMap,
        timeout_seconds: float,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._sender = sender
        self._ends = dict(ends)
        self._map = offset_map
        self._timeout_seconds = timeout_seconds
        self._tick = tick
        self._waiting: dict[RecordBatch, Columns] = {}
        self._queued_bytes = 0
        self._last_answer = time.monotonic()
        self.records = 0

    @property
    def in_flight(self) -> int:
        """Records sent and not acknowledged."""
        return sum(map(len, self._waiting.values()))

    @property
    def trouble(self) -> str:
        """The last problem of the connection; empty if there is none."""
        return self._sender.trouble

    def send(self, records: RecordBatch, columns: Columns, stop: threading.Event) -> None:
        """Queue a record batch; waits while the queue is full. Once `stop` is set, nothing is sent any more.

        Raises:
            LakefeedError: nothing can be sent any more; see `drain`.
        """
        while self._queued_bytes >= QUEUE_BYTES:
            self._wait()
            if stop.is_set():
                break
        if stop.is_set():
            return
        if not self._waiting:
            self._last_answer = time.monotonic()
        self._queued_bytes += records.size
        self._waiting[records] = columns
        self._sender.put(records)
        self._process(0)

    def drain(self) -> None:
        """Wait until each record is acknowledged.

        Raises:
            UnavailableError: the broker acknowledges nothing any more.
            RefusedError: it refused records; nothing after them was accepted.
            BusyError: another producer writes to the topic.
        """
        while self._waiting:
            self._wait()

    def drain_after_error(self) -> None:
        """Give records in flight a chance to be acknowledged, so that they are in the offset map."""
        end = time.monotonic() + _GRACE_SECONDS
        try:
            while self._waiting and time.monotonic() < end:
                self._wait()
        except LakefeedError:
            return

    def _wait(self) -> None:
        self._tick()
        self._process(_NAP_SECONDS)
        if time.monotonic() - self._last_answer > self._timeout_seconds:
            raise UnavailableError(
                f"no acknowledgement for {self._timeout_seconds:g} s: "
                f"{self.trouble or 'records are sent but not acknowledged'}. {_RESUME}"
            )

    def _process(self, seconds: float) -> None:
        try:
            report = (
                self._sender.reports.get(timeout=seconds) if seconds else self._sender.reports.get_nowait()
            )
            while True:
                self._settle(report)
                report = self._sender.reports.get_nowait()
        except queue.Empty:
            pass
        if self._sender.broken is not None:
            raise self._sender.broken

    def _settle(self, report: Report) -> None:
        columns = self._waiting.pop(report.records)
        partition, count = columns.partition, len(columns)
        if report.refused:
            raise self._sender.broken or _refused(report, columns)
        self._last_answer = time.monotonic()
        self._queued_bytes -= report.records.size
        self._ends[partition] += count
        end = self._ends[partition]
        if report.end is not None and report.end != end:
            raise BusyError(
                f"something else writes to partition {partition} of the topic: {abs(report.end - end):,} "
                "offsets are not of this restore. Restore into a topic that nothing else writes to"
            )
        self._map.add(partition, columns.offsets, np.arange(end - count, end))
        self.records += count


_RESUME = "Run the same command again to resume"


def _refused(report: Report, columns: Columns) -> LakefeedError:
    first = report.refused[0]
    at = first.part.index
    offset = int(columns.offsets[at][0])
    where = f"the record of offset {offset:,} of partition {columns.partition}"
    if first.too_large:
        return RefusedError(
            f"the broker does not accept {where}, nor anything after it: {first.reason}. Raise "
            f"max.message.bytes of the topic. {_RESUME}"
        )
    message = f"the broker did not accept any more, from {where} on ({first.reason}). {_RESUME}"
    return UnavailableError(message) if first.retryable else RefusedError(message)
