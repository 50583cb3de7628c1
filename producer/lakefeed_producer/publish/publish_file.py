"""The use case of the producer: publish one CSV file, so that the topic has each of its rows once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Self

from lakefeed_common.errors import LakefeedError, UnavailableError
from lakefeed_producer.csv.file import CsvFile
from lakefeed_producer.csv.rows import read_rows
from lakefeed_producer.kafka.batch import EventBatch
from lakefeed_producer.metrics import ProducerMetrics
from lakefeed_producer.publish.batching import Batcher, Events
from lakefeed_producer.publish.delivery import NAP_SECONDS, Control, Delivery
from lakefeed_producer.publish.destination import Destination, Tracker
from lakefeed_producer.publish.pace import Pace
from lakefeed_producer.publish.plan import FileOptions, Plan, plan_file
from lakefeed_producer.publish.progress import Observe, Progress
from lakefeed_producer.publish.rejects_file import RejectsFile
from lakefeed_producer.publish.reporting import Report
from lakefeed_producer.settings import ProducerSettings

# Between batches, a run checks whether it should stop.
BATCH_EVENTS = 20_000
# How often the topic is checked for rows of another producer.
_CHECK_SECONDS = 10.0
_MIN_WAIT_SECONDS = 0.005


@dataclass(frozen=True)
class PublishOptions:
    """How files are published.

    Attributes:
        file: how each file is read.
        delivery_timeout_seconds: how long to wait while the broker acknowledges nothing.
        republish: publish all rows, whatever the topic has.
    """

    file: FileOptions
    delivery_timeout_seconds: float = 120.0
    republish: bool = False

    @classmethod
    def of(cls, settings: ProducerSettings, *, limit: int | None = None, republish: bool = False) -> Self:
        """The options in the settings.

        Raises:
            SettingsError: the schema file cannot be used.
        """
        return cls(FileOptions.of(settings, limit), settings.delivery_timeout_seconds, republish)


@dataclass(frozen=True)
class PublishFile:
    """Publishes CSV files to one destination, one at a time: `plan`, then `find_rows`, then `send`.

    Attributes:
        destination: where the events go.
        options: how files are published.
        metrics: counts the work.
        control: how the caller stops it.
    """

    destination: Destination
    options: PublishOptions
    metrics: ProducerMetrics
    control: Control

    def plan(self, file: CsvFile) -> Plan:
        """Read the whole file once, to find out what is to be published.

        Raises:
            SettingsError: the schema or the key names a column that the file does not have.
            InputError: the file cannot be read.
        """
        return plan_file(file, self.options.file, beat=self.control.beat)

    def find_rows(self, plan: Plan, source: bytes | None = None) -> Tracker:
        """Find out which rows of the file the topic has.

        Args:
            plan: what is to be published.
            source: the name under which the file is published; its own name by default.

        Raises:
            ChangedError: the topic has rows of different content under this name.
            BusyError: another producer is publishing the file.
        """
        journal = self.destination.journal
        source = plan.file.source if source is None else source
        if self.options.republish:
            return journal.begin(source, plan.sha256, plan.total)
        mtime_ns = plan.file.version.mtime_ns
        return journal.resume(source, plan.sha256, mtime_ns, plan.total, self.control.beat)

    def send(
        self, plan: Plan, tracker: Tracker, rejects: RejectsFile, observe: Observe, *, counted: int = 0
    ) -> Progress:
        """Send the rows that the topic lacks, and wait until each event is acknowledged.

        Args:
            plan: what is published.
            tracker: what the topic has.
            rejects: keeps the rows that cannot become events.
            observe: called with the progress a few times a second, and at the end, whatever ends it.
            counted: rows up to this one are in the metrics already.

        Raises:
            InputError: the file can no longer be read, or the rejects cannot be written.
            UnavailableError: the broker did not acknowledge events in time.
            RefusedError: the broker refused events.
            BusyError: another producer is publishing the file.
        """
        report = Report(plan, rejects, self.metrics, observe, counted)
        _Run(self, plan, tracker, report).run()
        tracker.done()
        return report.progress


class _Run:
    """One run over a file."""

    def __init__(self, job: PublishFile, plan: Plan, tracker: Tracker, report: Report) -> None:
        publisher = job.destination.publisher
        self._plan = plan
        self._tracker = tracker
        self._report = report
        self._stop = job.control.stop
        self._clock = job.control.clock
        self._last_check = self._clock()
        self._pace = Pace(plan.rate, self._clock)
        self._batcher = Batcher(plan, tracker.in_topic, publisher.max_event_bytes)
        self._delivery = Delivery(publisher, job.control, job.options.delivery_timeout_seconds, report)

    def run(self) -> None:
        self._report.begin()
        interrupted = False
        try:
            self._send_rows()
            self._delivery.drain()
            interrupted = self._stop.is_set()
            if self._delivery.deliveries.failed and not interrupted:
                raise self._delivery.undelivered()
            self._check_topic()
            self._report.rejects_complete()
        except LakefeedError:
            self._delivery.drain_after_error()
            self._report.rejects_complete()
            raise
        finally:
            self._report.end(interrupted=interrupted)

    def _send_rows(self) -> None:
        for rows in read_rows(self._plan.file, limit=self._plan.limit, given=self._plan.given):
            self._report.read(rows)
            events = self._batcher.encode(rows)
            self._report.found(events.found)
            self._report.rejected(events.rejects)
            for batch in self._due_batches(events):
                self._delivery.send(batch)
                if self._delivery.is_ending:
                    return
                if self._clock() - self._last_check >= _CHECK_SECONDS:
                    self._check_topic()

    def _due_batches(self, events: Events) -> Iterator[EventBatch]:
        """Yield the events in batches as they become due."""
        begin = 0
        while begin < len(events) and not self._stop.is_set():
            end = begin + self._wait_until_due(min(BATCH_EVENTS, len(events) - begin))
            yield events.batch(begin, end)
            begin = end
        if not len(events):
            yield events.batch(0, 0)

    def _wait_until_due(self, wanted: int) -> int:
        """Wait until at least one event is due; 0 if nothing more must be sent."""
        while True:
            # With a rate, events that become due while others are in flight are sent together: a partition
            # has one record batch in flight, and a slow broker could not keep up with many small ones.
            gathers = self._plan.rate is not None and self._delivery.deliveries.in_flight > 0
            if not gathers and (due := self._pace.take(wanted)):
                return due
            if self._delivery.is_ending:
                return 0
            # Not for each single event: short bursts cost less and are as even over a second.
            seconds = NAP_SECONDS if gathers else max(self._pace.wait_seconds(), _MIN_WAIT_SECONDS)
            self._delivery.wait(min(seconds, NAP_SECONDS))

    def _check_topic(self) -> None:
        """Check that the topic has grown by the events of this run only; skipped if it is unreachable."""
        self._last_check = self._clock()
        deliveries = self._delivery.deliveries
        at_most = deliveries.added - deliveries.undelivered
        with suppress(UnavailableError):
            self._tracker.check(deliveries.delivered, at_most, partial(self._delivery.wait, 0))
