"""Publishes one CSV file: rows become events, are sent at a rate, and are accounted for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from lakefeed_common.errors import LakefeedError, RefusedError, UnavailableError
from lakefeed_producer.arrivals import Arrivals
from lakefeed_producer.columns import ColumnType, missing
from lakefeed_producer.delivery import Account, Batch, Publisher
from lakefeed_producer.events import Encoder
from lakefeed_producer.journal import Beat
from lakefeed_producer.metrics import ProducerMetrics
from lakefeed_producer.pace import Pace
from lakefeed_producer.record_batches import headers
from lakefeed_producer.records import Block, Positions
from lakefeed_producer.rejects import Reason, Reject, RejectsFile
from lakefeed_producer.rows import Rows, read_rows, reject
from lakefeed_producer.source import CsvFile
from lakefeed_producer.texts import Joined, Texts

Check = Callable[[int, int, Beat], None]

# In between it is seen whether a stop was asked for.
BATCH_EVENTS = 20_000
# How long an interrupted run waits for acknowledgements.
_GRACE_SECONDS = 10.0
# How often the position is taken down while all goes well.
_TICK_SECONDS = 0.2
# How often the topic is asked whether somebody else publishes the same file.
_CHECK_SECONDS = 10.0
# After this long without an acknowledgement something is wrong.
_SILENCE_SECONDS = 5.0
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
        sha256: of the file's bytes.
        key: index of the column that becomes the key, if any.
        rate: events a second, if limited.
        limit: last data row to be published.
        counted: rows up to here are in the metrics already.
    """

    file: CsvFile
    types: Sequence[ColumnType]
    total: int
    sha256: str
    given: Mapping[int, ColumnType] = field(default_factory=dict)
    key: int | None = None
    rate: float | None = None
    limit: int | None = None
    counted: int = 0

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
        found: rows that are not sent because the topic had them already.
        position: every row up to here is delivered, rejected or found.
        in_flight: events sent and not acknowledged.
        trouble: why nothing is acknowledged, if that is so for a while.
        seconds: since the first event was sent.
        interrupted: whether it was stopped before the end.
    """

    file: str
    rows: int
    read: int = 0
    delivered: int = 0
    rejected: int = 0
    found: int = 0
    position: int = 0
    in_flight: int = 0
    trouble: str = ""
    seconds: float = 0.0
    interrupted: bool = False


def publish(
    plan: Plan,
    publisher: Publisher,
    arrivals: Arrivals,
    rejects: RejectsFile,
    metrics: ProducerMetrics,
    stop: threading.Event,
    observe: Callable[[Progress], None],
    *,
    check: Check = lambda *_: None,
    patience_seconds: float = 120.0,
) -> Progress:
    """Publish the rows of a file that the topic lacks and wait until each event is acknowledged.

    Args:
        plan: what to publish.
        publisher: where the events go.
        arrivals: what the topic holds of the file.
        rejects: where rows go that cannot become events.
        metrics: counts the work.
        stop: when set, nothing more is sent, and what is on its way is waited for.
        observe: told of the progress a few times a second, at the end, and before an error.
        check: told now and then how many events at least and at most the topic has got of this run;
            raises when that is not so.
        patience_seconds: how long to wait while the broker acknowledges nothing.

    Raises:
        InputError: the file cannot be read any more.
        UnavailableError: the broker did not acknowledge in time.
        RefusedError: the broker refused events.
        BusyError: another producer publishes the file.
    """
    return _Publishing(
        plan, publisher, arrivals, rejects, metrics, stop, observe, check, patience_seconds
    ).run()


class _Publishing:
    def __init__(
        self,
        plan: Plan,
        publisher: Publisher,
        arrivals: Arrivals,
        rejects: RejectsFile,
        metrics: ProducerMetrics,
        stop: threading.Event,
        observe: Callable[[Progress], None],
        check: Check,
        patience_seconds: float,
    ) -> None:
        self._plan = plan
        self._publisher = publisher
        self._arrivals = arrivals
        self._rejects = rejects
        self._metrics = metrics
        self._stop = stop
        self._observe = observe
        self._check_topic = check
        self._patience_seconds = patience_seconds
        self._encoder = Encoder(plan.file.names, plan.types)
        self._account = Account()
        self._progress = Progress(plan.file.name, plan.rows)
        self._pace = Pace(plan.rate)
        self._start = self._last_tick = self._last_check = self._heard = time.monotonic()
        self._answered = 0
        self._given_up = ""

    def run(self) -> Progress:
        self._rejects.begin(self._plan.file.origin)
        self._metrics.file_rows.set(self._plan.rows)
        self._metrics.file_position.set(self._progress.position)
        try:
            self._send_all()
            self._drain(None)
            stopped = self._stop.is_set()
            self._progress.interrupted = stopped and self._progress.position < self._plan.rows
            if self._account.failed and not stopped:
                raise self._undelivered()
            self._check()
            self._rejects_are_complete()
        except LakefeedError:
            # What is on its way still counts; a publisher that broke for good reports no more.
            self._finish_quietly()
            raise
        finally:
            self._metrics.in_flight.set(0)
        return self._progress

    def _send_all(self) -> None:
        plan = self._plan
        for rows in read_rows(plan.file, limit=plan.limit, given=plan.given):
            self._progress.read += rows.count
            self._metrics.rows_read.inc(max(0, min(rows.count, rows.last_row - plan.counted)))
            for batch in self._batches(rows):
                self._send(batch)
                if self._stop.is_set() or self._account.failed or self._given_up:
                    return
                if time.monotonic() - self._last_check >= _CHECK_SECONDS:
                    self._check()

    def _batches(self, rows: Rows) -> Iterator[Batch]:
        """The events of some rows as they become due; rejects are written before."""
        publication = self._arrivals.publication
        rows, keys, partitions = self._missing(rows)
        values = self._encoder.encode(
            rows.columns, plain=rows.block.is_plain(self._plan.file.dialect.delimiter)
        )
        numbers = rows.rows
        rejects = list(rows.rejects)
        large = self._too_large(values, keys)
        if large.any():
            sizes = values.lengths()
            for at in np.flatnonzero(large).tolist():
                message = (
                    f"the event has {int(sizes[at]):,} bytes, more than the "
                    f"{self._publisher.max_event_bytes:,} that the topic takes with key and headers"
                )
                rejects.append(
                    reject(
                        self._plan.file,
                        rows.block,
                        int(numbers[at]) - rows.first_row,
                        int(numbers[at]),
                        Reason.EVENT_TOO_LARGE,
                        message,
                    )
                )
            values, partitions = values.take(~large), partitions[~large]
            keys = keys.take(~large) if keys is not None else None
            numbers = numbers[~large]
        self._put_aside(sorted(rejects, key=lambda one: one.row))
        begin = 0
        while begin < len(values) and not self._stop.is_set():
            end = begin + self._due(min(BATCH_EVENTS, len(values) - begin))
            due = slice(begin, end)
            last = end == len(values)
            yield Batch(
                publication,
                numbers[due],
                partitions[due],
                values.take(due),
                keys.take(due) if keys is not None else None,
                last_row=rows.last_row if last else int(numbers[end - 1]) if end > begin else 0,
                reject=partial(self._reject_later, rows.block, rows.first_row),
            )
            begin = end
        if not len(values):
            none = slice(0, 0)
            yield Batch(publication, numbers[none], partitions[none], values, None, last_row=rows.last_row)

    def _missing(self, rows: Rows) -> tuple[Rows, Texts | None, Positions]:
        """The rows that the topic lacks, with key and partition of each."""
        keys = self._keys(rows)
        partitions = self._arrivals.publication.spread(rows.rows, keys)
        present = self._arrivals.present(rows.rows, partitions)
        if not present.any():
            return rows, keys, partitions
        self._progress.found += int(present.sum())
        lacking = ~present
        columns = [values.take(lacking) for values in rows.columns]
        rows = replace(rows, columns=columns, rows=rows.rows[lacking])
        return rows, keys.take(lacking) if keys is not None else None, partitions[lacking]

    def _keys(self, rows: Rows) -> Texts | None:
        column = self._plan.key
        if column is None:
            return None
        values = rows.columns[column]
        return values.where(~missing(values, self._plan.types[column]))

    def _too_large(self, values: Joined, keys: Texts | None) -> npt.NDArray[np.bool_]:
        # Names and values of the headers; row numbers have at most 19 digits.
        room = self._publisher.max_event_bytes - len("row") - 19
        room -= sum(len(name) + len(value) for name, value in headers(self._arrivals.publication))
        sizes = values.lengths()
        return (sizes if keys is None else sizes + keys.lengths) > room

    def _put_aside(self, rejects: list[Reject]) -> None:
        if not rejects:
            return
        self._rejects.write(rejects)
        self._progress.rejected += len(rejects)
        for one in rejects:
            if one.row > self._plan.counted:
                self._metrics.rows_rejected.labels(one.reason).inc()

    def _reject_later(self, block: Block, first_row: int, row: int, said: str) -> Reject:
        """The reject for an event that the broker found too large."""
        message = f"the broker takes no event of this size: {said}"
        return reject(self._plan.file, block, row - first_row, row, Reason.EVENT_TOO_LARGE, message)

    def _due(self, wanted: int) -> int:
        """Wait until at least one event is due, or nothing more is to be sent: 0 then."""
        while True:
            # What becomes due while other events are on their way goes together: a partition takes one batch
            # after the other, and a slow broker could not keep up with many small ones.
            gathers = self._plan.rate is not None and self._account.in_flight > 0
            if not gathers and (due := self._pace.take(wanted)):
                return due
            if self._stop.is_set() or self._given_up or self._account.failed:
                return 0
            # Not for each single event: short bursts cost less and are as even over a second.
            self._wait(_NAP_SECONDS if gathers else min(max(self._pace.wait_seconds(), 0.005), _NAP_SECONDS))

    def _send(self, batch: Batch) -> None:
        if len(batch) or batch.last_row:
            self._account.add(batch)
            self._publisher.send(batch, self._go_on)
        # At once, as what has been dealt with takes memory.
        self._settle()
        self._tick()

    def _go_on(self) -> bool:
        """Whether the rest of a batch is still to be sent, as the queue is full."""
        self._tick()
        return not self._stop.is_set() and not self._given_up

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
            if self._given_up or (end is not None and time.monotonic() >= end):
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
        self._rejects_are_complete()

    def _rejects_are_complete(self) -> None:
        """Those of all rows up to the position have been written."""
        position = self._progress.position
        self._rejects.end(None if position == self._plan.total else position)

    def _tick(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and now - self._last_tick < _TICK_SECONDS:
            return
        self._last_tick = now
        self._settle()
        self._progress.seconds = now - self._start
        self._progress.in_flight = self._account.in_flight
        self._listen(now)
        self._metrics.in_flight.set(self._progress.in_flight)
        self._metrics.file_position.set(self._progress.position)
        self._observe(self._progress)

    def _listen(self, now: float) -> None:
        """See whether the broker has acknowledged anything since the last time."""
        progress, account = self._progress, self._account
        # What was given up is no answer, and leaves nothing in flight either.
        if account.answered != self._answered or (account.empty and not account.failed):
            self._heard = now
        self._answered = account.answered
        silent = now - self._heard
        progress.trouble = ""
        if silent >= min(_SILENCE_SECONDS, self._patience_seconds):
            progress.trouble = self._publisher.trouble or "events are sent but not acknowledged"
        if silent >= self._patience_seconds and not self._given_up:
            self._given_up = f"no acknowledgement for {self._patience_seconds:g} s: {progress.trouble}"

    def _check(self) -> None:
        """See that the topic has grown by our events only; no answer is no news."""
        self._last_check = time.monotonic()
        account = self._account
        with suppress(UnavailableError):
            self._check_topic(account.delivered, account.added - account.undelivered, partial(self._wait, 0))

    def _settle(self) -> None:
        account, progress = self._account, self._progress
        account.settle()
        if account.too_large:
            self._put_aside(
                [batch.reject(int(batch.rows[one.index]), one.reason) for batch, one in account.too_large]
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
        reason = self._given_up or first.reason
        said = (
            f"{progress.file}: {progress.delivered:,} events were delivered, then the broker stopped "
            f"taking them ({reason}). The first undelivered row is {batch.rows[first.index]:,}. "
            "The same command goes on where this one stopped"
        )
        return UnavailableError(said) if first.retryable else RefusedError(said)
