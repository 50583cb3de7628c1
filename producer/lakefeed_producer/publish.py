"""Publishes one CSV file: rows become events, are sent at a rate, and are accounted for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from lakefeed_common.errors import LakefeedError, RefusedError, UnavailableError
from lakefeed_producer.columns import ColumnType
from lakefeed_producer.delivery import Account, Batch, Publisher
from lakefeed_producer.events import Encoder, missing
from lakefeed_producer.metrics import ProducerMetrics
from lakefeed_producer.pace import Pace
from lakefeed_producer.rejects import Reason, Reject, RejectsFile
from lakefeed_producer.rows import Rows, read_rows, reject
from lakefeed_producer.source import CsvFile

BATCH_EVENTS = 1_000
# How long an interrupted run waits for acknowledgements.
_GRACE_SECONDS = 10.0
# How often the position is taken down while all goes well.
_TICK_SECONDS = 0.2
# Never asleep for longer, so that a request to stop is heard.
_NAP_SECONDS = 0.1


@dataclass(frozen=True)
class Plan:
    """What is to be published of a file, and how.

    Attributes:
        file: the CSV file.
        types: the type of each column.
        given: those types that the user has given, by column index.
        total: data rows of the file.
        key: index of the column that becomes the key, if any.
        rate: events a second, if limited.
        start_row: first data row to be published.
        limit: last data row to be published.
    """

    file: CsvFile
    types: Sequence[ColumnType]
    total: int
    given: Mapping[int, ColumnType] = field(default_factory=dict)
    key: int | None = None
    rate: float | None = None
    start_row: int = 1
    limit: int | None = None

    @property
    def rows(self) -> int:
        """Data rows up to the limit."""
        return self.total if self.limit is None else min(self.total, self.limit)


@dataclass
class Progress:
    """How far the publishing of a file has come.

    Attributes:
        file: name of the file.
        rows: data rows that are to be published.
        read: data rows read.
        delivered: events acknowledged.
        rejected: rows put aside.
        position: every row up to here is delivered or rejected.
        in_flight: events sent and not acknowledged.
        seconds: since the first event was sent.
        interrupted: whether it was stopped before the end.
    """

    file: str
    rows: int
    read: int = 0
    delivered: int = 0
    rejected: int = 0
    position: int = 0
    in_flight: int = 0
    seconds: float = 0.0
    interrupted: bool = False


def publish(
    plan: Plan,
    publisher: Publisher,
    rejects: RejectsFile,
    metrics: ProducerMetrics,
    stop: threading.Event,
    observe: Callable[[Progress], None],
) -> Progress:
    """Publish a file and wait until each event is acknowledged.

    Args:
        plan: what to publish.
        publisher: where the events go.
        rejects: where rows go that cannot become events.
        metrics: counts the work.
        stop: when set, nothing more is sent, and what is on its way is waited for.
        observe: told of the progress a few times a second, at the end, and before an error.

    Raises:
        InputError: the file cannot be read any more.
        UnavailableError: the broker did not acknowledge in time.
        RefusedError: the broker refused events.
    """
    return _Publishing(plan, publisher, rejects, metrics, stop, observe).run()


class _Publishing:
    def __init__(
        self,
        plan: Plan,
        publisher: Publisher,
        rejects: RejectsFile,
        metrics: ProducerMetrics,
        stop: threading.Event,
        observe: Callable[[Progress], None],
    ) -> None:
        self._plan = plan
        self._publisher = publisher
        self._rejects = rejects
        self._metrics = metrics
        self._stop = stop
        self._observe = observe
        self._encoder = Encoder(plan.file.names, plan.types)
        self._account = Account(plan.start_row - 1)
        self._progress = Progress(plan.file.name, plan.rows, position=plan.start_row - 1)
        self._pace = Pace(plan.rate)
        self._start = self._last_tick = time.monotonic()

    def run(self) -> Progress:
        self._metrics.file_rows.set(self._plan.rows)
        self._metrics.file_position.set(self._progress.position)
        try:
            self._send_all()
            self._drain(None)
            stopped = self._stop.is_set()
            self._progress.interrupted = stopped and self._progress.position < self._plan.rows
            if self._account.failed and not stopped:
                raise self._undelivered()
        except LakefeedError:
            # What is on its way still counts; a publisher that broke for good reports no more.
            self._finish_quietly()
            raise
        finally:
            self._metrics.in_flight.set(0)
        return self._progress

    def _send_all(self) -> None:
        plan = self._plan
        for rows in read_rows(plan.file, start_row=plan.start_row, limit=plan.limit, given=plan.given):
            self._progress.read += rows.count
            self._metrics.rows_read.inc(rows.count)
            for batch in self._batches(rows):
                self._send(batch)
                if self._stop.is_set() or self._account.failed:
                    return

    def _batches(self, rows: Rows) -> Iterator[Batch]:
        """The events of some rows as they become due; rejects are written before."""
        values = self._encoder.encode(rows.columns)
        keys = self._keys(rows)
        numbers: list[int] = rows.rows.tolist()
        indices: list[int] = rows.indices.tolist()
        rejects = list(rows.rejects)
        for at in self._too_large(values, keys):
            message = (
                f"the event has {len(values[at]):,} bytes, more than the "
                f"{self._publisher.max_event_bytes:,} that the topic takes with key and headers"
            )
            rejects.append(
                reject(self._plan.file, rows.block, indices[at], numbers[at], Reason.EVENT_TOO_LARGE, message)
            )
            values[at] = b""
        self._put_aside(sorted(rejects, key=lambda one: one.row))
        if len(rejects) > len(rows.rejects):
            kept = [at for at, value in enumerate(values) if value]
            values, keys = [values[at] for at in kept], [keys[at] for at in kept]
            numbers, indices = [numbers[at] for at in kept], [indices[at] for at in kept]
        begin = 0
        while begin < len(values) and not self._stop.is_set():
            end = begin + self._due(min(BATCH_EVENTS, len(values) - begin))
            last = end == len(values)
            yield Batch(
                self._plan.file.name,
                numbers[begin:end],
                values[begin:end],
                keys[begin:end],
                last_row=rows.last_row if last else numbers[end - 1] if end > begin else 0,
                reject=partial(self._reject_later, rows, indices[begin:end]),
            )
            begin = end
        if not values:
            yield Batch(self._plan.file.name, [], [], [], last_row=rows.last_row)

    def _keys(self, rows: Rows) -> list[bytes | None]:
        column = self._plan.key
        if column is None:
            return [None] * len(rows.rows)
        values = rows.columns[column]
        nulls = missing(values, self._plan.types[column]).to_pylist()
        texts = values.to_pylist()
        return [None if null else text.encode() for null, text in zip(nulls, texts, strict=True)]

    def _too_large(self, values: Sequence[bytes], keys: Sequence[bytes | None]) -> list[int]:
        # Names and values of the headers; row numbers have at most 19 digits.
        room = self._publisher.max_event_bytes - len("source" + "row") - 19
        room -= len(self._plan.file.name.encode("utf-8", "surrogateescape"))
        longest = max(map(len, values), default=0)
        if self._plan.key is not None:
            longest += max((len(key or b"") for key in keys), default=0)
        if longest <= room:
            return []
        return [
            at
            for at, (value, key) in enumerate(zip(values, keys, strict=True))
            if len(value) + len(key or b"") > room
        ]

    def _put_aside(self, rejects: list[Reject]) -> None:
        if not rejects:
            return
        self._rejects.write(rejects)
        self._progress.rejected += len(rejects)
        for one in rejects:
            self._metrics.rows_rejected.labels(one.reason).inc()

    def _reject_later(self, rows: Rows, indices: Sequence[int], at: int, row: int, said: str) -> Reject:
        """The reject for an event that the broker found too large."""
        message = f"the broker takes no event of this size: {said}"
        return reject(self._plan.file, rows.block, indices[at], row, Reason.EVENT_TOO_LARGE, message)

    def _due(self, wanted: int) -> int:
        """Wait until at least one event is due, or a stop is asked for: 0 then."""
        while not (due := self._pace.take(wanted)):
            if self._stop.is_set():
                return 0
            # Not for each single event: short bursts cost less and are as even over a second.
            self._wait(min(max(self._pace.wait_seconds(), 0.005), _NAP_SECONDS))
        return due

    def _send(self, batch: Batch) -> None:
        if batch.values or batch.last_row:
            self._account.add(batch)
            self._publisher.send(batch, self._tick)
        self._tick()

    def _wait(self, seconds: float) -> None:
        self._publisher.wait(seconds)
        self._tick()

    def _drain(self, seconds: float | None) -> None:
        """Wait for all reports; for at most so long once a stop has been asked for."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            self._settle()
            if self._account.empty:
                break
            if end is None and (self._stop.is_set() or self._account.failed):
                end = time.monotonic() + _GRACE_SECONDS
            if end is not None and time.monotonic() >= end:
                self._publisher.abandon()
                self._settle()
                break
            self._wait(_NAP_SECONDS)
        self._tick(at_once=True)

    def _finish_quietly(self) -> None:
        try:
            self._drain(_GRACE_SECONDS if not self._account.failed else 0)
        except LakefeedError:
            self._settle()
            self._observe(self._progress)

    def _tick(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and now - self._last_tick < _TICK_SECONDS:
            return
        self._last_tick = now
        self._settle()
        self._progress.seconds = now - self._start
        self._progress.in_flight = self._account.in_flight
        self._metrics.in_flight.set(self._progress.in_flight)
        self._metrics.file_position.set(self._progress.position)
        self._observe(self._progress)

    def _settle(self) -> None:
        account, progress = self._account, self._progress
        account.settle()
        if account.too_large:
            self._put_aside(
                [
                    batch.reject(one.index, batch.rows[one.index], one.reason)
                    for batch, one in account.too_large
                ]
            )
            account.too_large.clear()
        self._metrics.events_delivered.inc(account.delivered - progress.delivered)
        self._metrics.event_bytes.inc(account.take_bytes())
        progress.delivered = account.delivered
        progress.position = account.position
        for seconds in account.take_seconds():
            self._metrics.delivery_seconds.observe(seconds)

    def _undelivered(self) -> LakefeedError:
        batch, first = self._account.failed[0]
        progress = self._progress
        said = (
            f"{progress.file}: {progress.delivered:,} events were delivered, then the broker stopped "
            f"taking them ({first.reason}). The first undelivered row is {batch.rows[first.index]:,}"
        )
        return UnavailableError(said) if first.retryable else RefusedError(said)
