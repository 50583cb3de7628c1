"""Every metric of the consumer."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from lakefeed_common.metrics import ServiceMetrics
from lakefeed_consumer.counting import PlainCounter, PlainCounters, PlainGauge, PlainHistogram

OUTCOMES = ("stored", "already_there", "conflict", "dead_letter")
RETRY_CAUSES = ("slow_down", "server_error", "timeout", "connection", "refused", "other")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
AGES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 86400)


class ConsumerMetrics(ServiceMetrics):
    """What the consumer tells Prometheus."""

    def __init__(self) -> None:
        super().__init__("consumer")
        # What changes with each event.
        self.events_taken = PlainCounter(
            "lakefeed_consumer_events_taken_total", "Events read from Kafka.", self.registry
        )
        self.objects = PlainCounters(
            "lakefeed_consumer_objects_total",
            "Events that are safe in the bucket, by what became of them: stored; already_there, the same "
            "body was stored before; conflict, another body had its key, so it was stored aside; "
            "dead_letter, it was no JSON object.",
            "outcome",
            OUTCOMES,
            self.registry,
        )
        self.object_bytes = PlainCounter(
            "lakefeed_consumer_object_bytes_total",
            "Bytes of the events stored, as `stored` counts them.",
            self.registry,
        )
        self.put_seconds = PlainHistogram(
            "lakefeed_consumer_put_seconds",
            "Time of each single put, failed ones included.",
            SECONDS,
            self.registry,
        )
        self.event_age_seconds = PlainHistogram(
            "lakefeed_consumer_event_age_seconds",
            "Age of an event, from its record's timestamp, when its object is stored.",
            AGES,
            self.registry,
        )
        self.last_stored = PlainGauge(
            "lakefeed_consumer_last_stored_timestamp_seconds",
            "When an object was last stored, in seconds since 1970.",
            self.registry,
        )
        # What changes now and then.
        self.retries = Counter(
            "lakefeed_consumer_put_retries_total",
            "Puts that failed and were tried again, by cause.",
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
            "Offsets that Kafka deleted before this worker read them, by retention or DeleteRecords.",
            ["topic", "partition"],
            registry=self.registry,
        )
        self.partitions = Gauge(
            "lakefeed_consumer_assigned_partitions",
            "Partitions that the group has given to this worker.",
            registry=self.registry,
        )
        self.rebalances = Counter(
            "lakefeed_consumer_rebalances_total",
            "How often partitions were given to this worker anew.",
            registry=self.registry,
        )
        for cause in RETRY_CAUSES:
            self.retries.labels(cause)
