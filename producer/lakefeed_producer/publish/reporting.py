"""Reports what becomes of the rows of one file: as metrics, as rejects, and as progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lakefeed_producer.csv.rejects import Reject
from lakefeed_producer.csv.rows import Rows
from lakefeed_producer.metrics import ProducerMetrics
from lakefeed_producer.publish.deliveries import Deliveries
from lakefeed_producer.publish.plan import Plan
from lakefeed_producer.publish.progress import Observe, Progress
from lakefeed_producer.publish.rejects_file import RejectsFile


class Report:
    """The report of one run over a file.

    Args:
        plan: what is published.
        rejects: keeps the rejected rows.
        metrics: counts the rows.
        observe: called with each snapshot of the progress.
        counted: rows up to this one are in the metrics already.
    """

    def __init__(
        self, plan: Plan, rejects: RejectsFile, metrics: ProducerMetrics, observe: Observe, counted: int
    ) -> None:
        self._plan = plan
        self._rejects = rejects
        self._metrics = metrics
        self._observe = observe
        self._counted = counted
        self._progress = Progress(plan.file.name, plan.rows)

    @property
    def progress(self) -> Progress:
        """The latest snapshot."""
        return self._progress

    def begin(self) -> None:
        """Start with the first row of the file."""
        self._rejects.begin(self._plan.file.origin)
        self._metrics.file_rows.set(self._plan.rows)
        self._metrics.file_position.set(0)

    def read(self, rows: Rows) -> None:
        """Count rows that were read."""
        self._update(read=self._progress.read + rows.count)
        self._metrics.rows_read.inc(max(0, min(rows.count, rows.last_row - self._counted)))

    def found(self, count: int) -> None:
        """Count rows that the topic has already."""
        self._update(found=self._progress.found + count)

    def rejected(self, rejects: Sequence[Reject]) -> None:
        """Count rejected rows, and write them to the rejects file.

        Raises:
            InputError: the file cannot be written.
        """
        if not rejects:
            return
        self._rejects.write(rejects)
        self._update(rejected=self._progress.rejected + len(rejects))
        for one in rejects:
            if one.row > self._counted:
                self._metrics.rows_rejected.labels(one.reason).inc()

    def settled(self, deliveries: Deliveries) -> None:
        """Count what the broker acknowledged or refused since the last call."""
        if deliveries.too_large:
            refused = [
                batch.reject(int(batch.rows[one.index]), one.reason) for batch, one in deliveries.too_large
            ]
            self.rejected(refused)
            deliveries.too_large.clear()
        self._metrics.events_delivered.inc(deliveries.delivered - self._progress.delivered)
        self._metrics.event_bytes.inc(deliveries.take_bytes())
        for seconds in deliveries.take_seconds():
            self._metrics.delivery_seconds.observe(seconds)
        self._update(delivered=deliveries.delivered, position=deliveries.position)

    def snapshot(self, deliveries: Deliveries, seconds: float, trouble: str) -> None:
        """Publish the state after `seconds` to the gauges and the observer."""
        self._update(seconds=seconds, in_flight=deliveries.in_flight, trouble=trouble)
        self._metrics.in_flight.set(self._progress.in_flight)
        self._metrics.file_position.set(self._progress.position)
        self._observe(self._progress)

    def rejects_complete(self) -> None:
        """All rejects up to the position have been written: remove those that they replace."""
        position = self._progress.position
        self._rejects.end(None if position == self._plan.total else position)

    def end(self, *, interrupted: bool) -> None:
        """Report the final state, whatever ended the run."""
        self._update(interrupted=interrupted and self._progress.position < self._progress.rows)
        self._metrics.in_flight.set(0)
        self._observe(self._progress)

    def _update(self, **changes: object) -> None:
        self._progress = replace(self._progress, **changes)  # type: ignore[arg-type]
