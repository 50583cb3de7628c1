"""Every metric of the consumer."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from lakefeed_common.metrics import ServiceMetrics
from lakefeed_consumer.counting import PlainCounter, PlainCounters, PlainGauge, PlainHistogram

OUTCOMES = ("stored", "already_there", "conflict", "dead_letter")
BATCH_OUTCOMES = ("stored", "adopted", "conflict")
BATCH_EVENTS = (1, 10, 100, 1_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000)
RETRY_CAUSES = ("slow_down", "server_error", "timeout", "connection", "refused", "other")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
AGES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 86400)


class ConsumerMetrics(ServiceMetrics):
    """The consumer's metrics."""

    def __init__(self) -> None:
        super().__init__("consumer")
        # Updated with each event.
        self.events_taken = PlainCounter(
            "lakefeed_consumer_events_taken_total", "Events read from Kafka.", self.registry
        )
        self.objects = PlainCounters(
            "lakefeed_consumer_objects_total",
            "Events in the bucket, by outcome: stored; already_there, the same body was stored before; "
            "conflict, the key has another body, so the event is stored as a dead letter; dead_letter, the "
            "record is not a valid event.",
            "outcome",
            OUTCOMES,
            self.registry,
        )
        self.object_bytes = PlainCounter(
            "lakefeed_consumer_object_bytes_total",
            "Bytes of stored events (outcome `stored`).",
            self.registry,
        )
        self.put_seconds = PlainHistogram(
            "lakefeed_consumer_put_seconds",
            "S3 PUT latency, each attempt counted, also failed ones.",
            SECONDS,
            self.registry,
        )
        self.event_age_seconds = PlainHistogram(
            "lakefeed_consumer_event_age_seconds",
            "End-to-end latency: the age of an event, by its record's timestamp, when its object is stored.",
            AGES,
            self.registry,
        )
        self.batches = PlainCounters(
            "lakefeed_consumer_batches_total",
            "Batches in the bucket, by outcome: stored; adopted, the key has a batch of the same records, by "
            "another worker, before a restart, or by a put whose response was lost; conflict, it has other "
            "records, so the batch is kept under the prefix of dead letters.",
            "outcome",
            BATCH_OUTCOMES,
            self.registry,
        )
        self.batch_events = PlainHistogram(
            "lakefeed_consumer_batch_events", "Events per stored batch.", BATCH_EVENTS, self.registry
        )
        self.last_stored = PlainGauge(
            "lakefeed_consumer_last_stored_timestamp_seconds",
            "Time when an object was last stored, in seconds since 1970.",
            self.registry,
        )
        # Updated rarely.
        self.retries = Counter(
            "lakefeed_consumer_put_retries_total",
            "Failed puts that were retried, by cause.",
            ["cause"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "lakefeed_consumer_in_flight_events",
            "Events taken and not yet stored.",
            registry=self.registry,
        )
        self.lag = Gauge(
            "lakefeed_consumer_lag_events",
            "Events of an assigned partition that are not committed yet.",
            ["topic", "partition"],
            registry=self.registry,
        )
        self.committed_offset = Gauge(
            "lakefeed_consumer_committed_offset",
            "Next offset to read after a restart, of an assigned partition.",
            ["topic", "partition"],
            registry=self.registry,
        )
        self.never_read = Counter(
            "lakefeed_consumer_events_never_read_total",
            "Offsets that Kafka deleted, by retention or DeleteRecords, before this worker read them.",
            ["topic", "partition"],
            registry=self.registry,
        )
        self.partitions = Gauge(
            "lakefeed_consumer_assigned_partitions",
            "Partitions that are assigned to this worker.",
            registry=self.registry,
        )
        self.rebalances = Counter(
            "lakefeed_consumer_rebalances_total",
            "Assignments of partitions to this worker.",
            registry=self.registry,
        )
        for cause in RETRY_CAUSES:
            self.retries.labels(cause)
