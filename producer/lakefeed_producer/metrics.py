"""Every metric of the producer."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from lakefeed_common.metrics import ServiceMetrics
from lakefeed_producer.csv.rejects import Reason

OUTCOMES = ("done", "failed", "changed", "duplicate")


class ProducerMetrics(ServiceMetrics):
    """The metrics of the producer; updated once for many rows."""

    def __init__(self) -> None:
        super().__init__("producer")
        self.rows_read = Counter(
            "lakefeed_producer_rows_read_total",
            "Data rows read from CSV files, including rejected ones.",
            registry=self.registry,
        )
        self.events_delivered = Counter(
            "lakefeed_producer_events_delivered_total",
            "Events that the broker has acknowledged.",
            registry=self.registry,
        )
        self.rows_rejected = Counter(
            "lakefeed_producer_rows_rejected_total",
            "Rows that could not become events, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.event_bytes = Counter(
            "lakefeed_producer_event_bytes_total",
            "Size of the values of acknowledged events.",
            registry=self.registry,
        )
        self.delivery_seconds = Histogram(
            "lakefeed_producer_delivery_seconds",
            "Time from sending an event to its acknowledgement, sampled for the last event of each batch.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
            registry=self.registry,
        )
        self.file_position = Gauge(
            "lakefeed_producer_file_position_rows",
            "Row of the current or last file up to which all rows are delivered or rejected.",
            registry=self.registry,
        )
        self.file_rows = Gauge(
            "lakefeed_producer_file_rows",
            "Data rows of the current or last file.",
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "lakefeed_producer_in_flight_events",
            "Events sent and not acknowledged.",
            registry=self.registry,
        )
        self.files = Counter(
            "lakefeed_producer_files_total",
            "Files by outcome: done, failed, changed after publishing, duplicate of another.",
            ["outcome"],
            registry=self.registry,
        )
        for reason in Reason:
            self.rows_rejected.labels(reason)
        for outcome in OUTCOMES:
            self.files.labels(outcome)
