"""The dashboard *Lakefeed: pipeline*: its rows follow an event from the CSV file to the query."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DashboardLinkType

from monitoring.grafana.panels import (
    BAD,
    GOOD,
    WARNING,
    Query,
    Section,
    State,
    assemble,
    lines,
    listing,
    number,
    quantiles,
    rate,
    states,
)

UID = "lakefeed-pipeline"
_UP = (State(1, "up", GOOD), State(0, "down", BAD))
_READY = (State(1, "ready", GOOD), State(0, "not ready", BAD))
_IN_STATE = (State(1, "in this state", "blue"), State(0, "other state", "transparent"))
# Whole numbers with separators, so that values that should agree can be compared digit by digit.
_COUNT = units.LocaleFormat
_DATA_TOPICS = '{topic!~"__.*"}'


def build() -> dict[str, Any]:
    """The dashboard as JSON."""
    board = (
        builders.Dashboard("Lakefeed: pipeline")
        .uid(UID)
        .description(
            "The path of an event from CSV through Kafka and S3 to Athena. Generated: see monitoring/grafana."
        )
        .tags(["lakefeed"])
        .readonly()
        .timezone("browser")
        .time("now-15m", "now")
        .refresh("5s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            builders.DashboardLink("Lakefeed")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["lakefeed"])
            .as_dropdown(True)
            .keep_time(True)
        )
    )
    return assemble(
        board,
        [_overview(), _csv_to_kafka(), _kafka(), _kafka_to_s3(), _glue(), _athena(), _iceberg(), _health()],
    )


def _overview() -> Section:
    return Section(
        None,
        [
            number(
                "Rows read",
                "Data rows read from CSV files since the producer started. "
                "Equals rows rejected plus events delivered once the producer has finished.",
                _COUNT,
                "sum(lakefeed_producer_rows_read_total)",
            ),
            number(
                "Rows rejected",
                "Rows that could not become events, since the producer started. "
                "They are in its rejects file.",
                _COUNT,
                "sum(lakefeed_producer_rows_rejected_total)",
                warn_from=1,
                warn_color=WARNING,
            ),
            number(
                "Events delivered",
                "Events acknowledged by the broker since the producer started.",
                _COUNT,
                "sum(lakefeed_producer_events_delivered_total)",
            ),
            number(
                "Records in Kafka",
                "Sum of the next offsets of all partitions: all records ever written, by any producer. "
                "Unlike counters, it does not restart at 0.",
                _COUNT,
                "sum(kafka_partition_logendoffset)",
            ),
            number(
                "Offsets committed",
                "Sum of the offsets up to which every event is stored. "
                "Equals the records in Kafka once the consumer has caught up.",
                _COUNT,
                "sum(lakefeed_consumer_committed_offset)",
            ),
            number(
                "Events stored in S3",
                "Events that are in the bucket, including dead letters, since the consumers started. "
                "After a restart it also counts the few events that are read again.",
                _COUNT,
                "sum(lakefeed_consumer_objects_total)",
            ),
            number(
                "Dead letters",
                "Invalid events and conflicts (the key exists with a different body) since the consumers "
                "started. They are stored under the dead-letter prefix and are not in the table.",
                _COUNT,
                'sum(lakefeed_consumer_objects_total{outcome=~"dead_letter|conflict"})',
                warn_from=1,
            ),
            number(
                "Partitions pending crawl",
                "Day folders in the bucket that the catalogue does not know yet; 0 after a crawl.",
                _COUNT,
                "sum(lakefeed_analytics_folders_pending)",
                warn_from=1,
                warn_color=WARNING,
            ),
        ],
    )


def _csv_to_kafka() -> Section:
    return Section(
        "CSV → Kafka",
        [
            lines(
                "Rows and events",
                "Rows read from CSV files and events acknowledged by the broker, per second.",
                units.EventsPerSecond,
                Query(rate("lakefeed_producer_rows_read_total"), "rows read"),
                Query(rate("lakefeed_producer_events_delivered_total"), "events delivered"),
            ),
            lines(
                "Position in the file",
                "Row of the current file up to which all rows are delivered or rejected, and the number of "
                "its rows. Both are 0 between files.",
                _COUNT,
                Query("sum(lakefeed_producer_file_position_rows)", "position"),
                Query("sum(lakefeed_producer_file_rows)", "rows of the file"),
            ),
            lines(
                "Delivery latency",
                "Time from sending an event to the acknowledgement by all in-sync replicas.",
                units.Seconds,
                *quantiles("lakefeed_producer_delivery_seconds"),
            ),
            lines(
                "Rejected rows by reason",
                "Rows that could not become events, by reason, since the producer started.",
                _COUNT,
                Query("sum by (reason) (lakefeed_producer_rows_rejected_total)", "{{reason}}"),
            ),
            lines(
                "Bytes delivered",
                "Size of the values of acknowledged events, per second, before compression.",
                units.BytesPerSecondSI,
                Query(rate("lakefeed_producer_event_bytes_total"), "values"),
                width=8,
            ),
            lines(
                "Events in flight to Kafka",
                "Events that were sent and are not yet acknowledged.",
                _COUNT,
                Query("sum(lakefeed_producer_in_flight_events)", "in flight"),
                width=8,
            ),
            lines(
                "Files by outcome",
                "Files since the producer started: done, failed, changed after publishing, duplicates.",
                _COUNT,
                Query("sum by (outcome) (lakefeed_producer_files_total)", "{{outcome}}"),
                width=8,
            ),
        ],
    )


def _kafka() -> Section:
    return Section(
        "Kafka",
        [
            lines(
                "Messages in",
                "Records written to each topic, per second, as counted by the broker.",
                units.MessagesPerSecond,
                Query(rate("kafka_topic_messagesin_total", by="topic", where=_DATA_TOPICS), "{{topic}}"),
            ),
            lines(
                "Bytes in and out",
                "Bytes written to and read from each topic, per second, compressed as on the wire.",
                units.BytesPerSecondSI,
                Query(rate("kafka_topic_bytesin_total", by="topic", where=_DATA_TOPICS), "{{topic}} in"),
                Query(rate("kafka_topic_bytesout_total", by="topic", where=_DATA_TOPICS), "{{topic}} out"),
            ),
            lines(
                "Log end offset by partition",
                "Next offset of each partition: the number of records ever written to it.",
                _COUNT,
                Query("sum by (topic, partition) (kafka_partition_logendoffset)", "{{topic}} {{partition}}"),
            ),
            lines(
                "Size on disk",
                "Bytes that each topic occupies on the broker's disk.",
                units.BytesIEC,
                Query("sum by (topic) (kafka_partition_size_bytes)", "{{topic}}"),
            ),
            lines(
                "Request latency, p99",
                "Time from the arrival of a request to its response, 99th percentile, by the broker. "
                "A fetch waits if there is no data.",
                units.Seconds,
                Query('max by (request) (kafka_request_seconds{quantile="0.99"})', "{{request}}"),
            ),
            lines(
                "Requests",
                "Requests answered by the broker, per second, by type.",
                units.RequestsPerSecond,
                Query(rate("kafka_requests_total", by="request"), "{{request}}"),
            ),
            lines(
                "Under-replicated and offline partitions",
                "Partitions with fewer in-sync replicas than configured, and partitions without "
                "a leader. Both should be 0.",
                _COUNT,
                Query("sum(kafka_replicamanager_underreplicatedpartitions)", "under-replicated"),
                Query("sum(kafka_controller_offlinepartitionscount)", "offline"),
            ),
            lines(
                "Idle request handlers",
                "Fraction of time in which the broker's request handlers are idle. "
                "Below 0.3 the broker is the bottleneck.",
                units.PercentUnit,
                Query("min by (instance) (kafka_request_handler_idle_ratio)", "{{instance}}"),
            ),
        ],
    )


def _kafka_to_s3() -> Section:
    return Section(
        "Kafka → S3",
        [
            lines(
                "Consumed and stored",
                "Events read from Kafka, and events that are in the bucket by outcome, per second.",
                units.EventsPerSecond,
                Query(rate("lakefeed_consumer_events_taken_total"), "consumed"),
                Query(rate("lakefeed_consumer_objects_total", by="outcome"), "{{outcome}}"),
            ),
            lines(
                "S3 PUT latency",
                "Duration of each put, including failed ones.",
                units.Seconds,
                *quantiles("lakefeed_consumer_put_seconds"),
            ),
            lines(
                "Put retries by cause",
                "Puts that failed and were retried, per second.",
                units.OpsPerSecond,
                Query(rate("lakefeed_consumer_put_retries_total", by="cause"), "{{cause}}"),
            ),
            lines(
                "End-to-end latency",
                "Time from the record's timestamp to its object in the bucket.",
                units.Seconds,
                *quantiles("lakefeed_consumer_event_age_seconds"),
            ),
            lines(
                "Lag by partition",
                "Events of each partition that are not committed yet. Commits are periodic, so under load "
                "it does not stay at 0.",
                _COUNT,
                Query("sum by (topic, partition) (lakefeed_consumer_lag_events)", "{{topic}} {{partition}}"),
            ),
            lines(
                "Committed offset by partition",
                "Offset at which a restart resumes; all earlier events are stored.",
                _COUNT,
                Query(
                    "sum by (topic, partition) (lakefeed_consumer_committed_offset)",
                    "{{topic}} {{partition}}",
                ),
            ),
            lines(
                "Events in flight to S3",
                "Events read and not yet stored, by worker. LAKEFEED_PUTS_IN_FLIGHT limits concurrent puts.",
                _COUNT,
                Query("sum by (instance) (lakefeed_consumer_in_flight_events)", "{{instance}}"),
            ),
            lines(
                "Bytes stored",
                "Size of the stored events, per second.",
                units.BytesPerSecondSI,
                Query(rate("lakefeed_consumer_object_bytes_total"), "stored"),
            ),
            lines(
                "Partitions by worker",
                "Partitions that are assigned to each worker.",
                _COUNT,
                Query("sum by (instance) (lakefeed_consumer_assigned_partitions)", "{{instance}}"),
                width=8,
                stacked=True,
            ),
            lines(
                "Rebalances",
                "Partition assignments of each worker since it started.",
                _COUNT,
                Query("sum by (instance) (lakefeed_consumer_rebalances_total)", "{{instance}}"),
                width=8,
            ),
            lines(
                "Time to catch up",
                "Lag divided by the events/s stored in the last 5 minutes: approximate time to catch up "
                "if no more events arrive. No data while nothing is stored.",
                units.Seconds,
                Query("lakefeed:consumer_lag_events:sum / lakefeed:consumer_objects:rate5m", "to catch up"),
                width=8,
            ),
            lines(
                "Batches",
                "Batches by outcome, per second, with LAKEFEED_LAYOUT=batches: stored, adopted from an "
                "earlier put of the same records, or kept as a conflict.",
                units.OpsPerSecond,
                Query(rate("lakefeed_consumer_batches_total", by="outcome"), "{{outcome}}"),
                width=12,
            ),
            lines(
                "Events per batch",
                "Mean of the batches that were stored in the last 5 minutes.",
                _COUNT,
                Query(
                    f"{rate('lakefeed_consumer_batch_events_sum')} "
                    f"/ {rate('lakefeed_consumer_batch_events_count')}",
                    "mean",
                ),
                width=12,
            ),
        ],
    )


def _glue() -> Section:
    return Section(
        "Glue",
        [
            states(
                "Crawler",
                "State of the Glue crawler over time.",
                Query("max by (state) (lakefeed_analytics_crawler_state)", "{{state}}"),
                _IN_STATE,
            ),
            lines(
                "Crawls by outcome",
                "Crawls, started by any client, that ended since the analytics service started.",
                _COUNT,
                Query("sum by (outcome) (lakefeed_analytics_crawls_total)", "{{outcome}}"),
            ),
            lines(
                "Crawl duration",
                "Duration of the crawls of the last hour.",
                units.Seconds,
                *quantiles("lakefeed_analytics_crawl_seconds", window="1h"),
            ),
            lines(
                "Pending partitions",
                "Day folders in the bucket that the catalogue does not know yet.",
                _COUNT,
                Query("sum(lakefeed_analytics_folders_pending)", "pending"),
            ),
            lines(
                "Tables",
                "Tables in the Glue database: one per topic, and its Iceberg table. More of them mean that a "
                "crawl split a topic.",
                _COUNT,
                Query("max(lakefeed_analytics_tables)", "tables"),
                width=12,
            ),
            lines(
                "Partitions by table",
                "Partitions of each table: one per day.",
                _COUNT,
                Query("max by (table) (lakefeed_analytics_partitions)", "{{table}}"),
                width=12,
            ),
        ],
    )


def _iceberg() -> Section:
    return Section(
        "Iceberg",
        [
            lines(
                "Events not in the table",
                "Committed events that the topic's Iceberg table does not have yet.",
                _COUNT,
                Query("sum by (topic) (lakefeed_analytics_compact_lag_events)", "{{topic}}"),
            ),
            lines(
                "Watermark",
                "Offset below which the topic's Iceberg table has every event of a partition.",
                _COUNT,
                Query(
                    "max by (topic, partition) (lakefeed_analytics_compact_watermark)",
                    "{{topic}} {{partition}}",
                ),
            ),
            lines(
                "Rows added",
                "Rows added to Iceberg tables, and those with a value that does not fit its column.",
                units.CountsPerSecond,
                Query(rate("lakefeed_analytics_compact_rows_total", by="topic"), "{{topic}}"),
                Query(rate("lakefeed_analytics_compact_unfit_rows_total", by="topic"), "{{topic}}, unfit"),
            ),
            lines(
                "Compaction duration",
                "Duration of the compactions of the last hour, including those that failed.",
                units.Seconds,
                *quantiles("lakefeed_analytics_compact_seconds", window="1h"),
            ),
            lines(
                "Commits and refused attempts",
                "Commits to Iceberg tables since the compactor started, and attempts that failed or that "
                "another commit refused. Refused attempts are repeated and add nothing twice.",
                _COUNT,
                Query("sum by (topic) (lakefeed_analytics_compact_commits_total)", "{{topic}}"),
                Query(
                    "sum by (topic) (lakefeed_analytics_compact_refused_commits_total)", "{{topic}}, refused"
                ),
            ),
            lines(
                "Files added",
                "Data files that the compactor has added since it started. Small files make queries slow: "
                "`lakefeed-analytics maintain` rewrites them.",
                _COUNT,
                Query("sum by (topic) (lakefeed_analytics_compact_files_total)", "{{topic}}"),
            ),
            lines(
                "Bytes added",
                "Size of the data files that the compactor has added since it started.",
                units.BytesIEC,
                Query("sum by (topic) (lakefeed_analytics_compact_written_bytes_total)", "{{topic}}"),
            ),
            lines(
                "Since the table was complete",
                "Time since the topic's Iceberg table had everything that was committed.",
                units.Seconds,
                Query(
                    "time() - max by (topic) (lakefeed_analytics_compact_last_success_timestamp_seconds)",
                    "{{topic}}",
                ),
            ),
        ],
    )


def _athena() -> Section:
    return Section(
        "Athena",
        [
            # Totals, not rates: queries are rare, and a rate misses the first one of a new label.
            lines(
                "Queries by state",
                "Queries of the workgroup, from any client, that ended since the service started.",
                _COUNT,
                Query("sum by (state) (lakefeed_analytics_queries_total)", "{{state}}"),
            ),
            lines(
                "Queries by name",
                "Queries that ended, by named query; `sample` and `free` are all others.",
                _COUNT,
                Query("sum by (query) (lakefeed_analytics_queries_total)", "{{query}}"),
            ),
            lines(
                "Queries running",
                "Queries of the workgroup that have not ended.",
                _COUNT,
                Query("sum(lakefeed_analytics_queries_running)", "running"),
            ),
            lines(
                "Query duration",
                "Duration of the queries of the last hour, including time in the queue.",
                units.Seconds,
                *quantiles("lakefeed_analytics_query_seconds", window="1h"),
            ),
            lines(
                "Bytes scanned",
                "Bytes that queries scanned since the analytics service started, which Athena bills.",
                units.BytesIEC,
                Query("sum(lakefeed_analytics_query_scanned_bytes_total)", "scanned"),
            ),
            lines(
                "Cost",
                "Estimated cost of the queries since the analytics service started.",
                units.Dollars,
                Query("sum(lakefeed_analytics_query_cost_usd_total)", "cost"),
            ),
            lines(
                "API requests by status",
                "Requests to the HTTP API, per second.",
                units.RequestsPerSecond,
                Query(rate("lakefeed_analytics_http_requests_total", by="status"), "{{status}}"),
            ),
            lines(
                "API request latency, p99",
                "Duration of the requests of the last 5 minutes, 99th percentile, by route.",
                units.Seconds,
                Query(
                    "histogram_quantile(0.99, "
                    "sum by (le, route) (rate(lakefeed_analytics_http_request_seconds_bucket[5m])))",
                    "{{route}}",
                ),
            ),
        ],
    )


def _health() -> Section:
    return Section(
        "Health",
        [
            states(
                "Up",
                "Whether Prometheus can scrape each service.",
                Query("min by (job, instance) (up)", "{{job}} {{instance}}"),
                _UP,
                width=8,
            ),
            states(
                "Ready",
                "Whether each service can use its dependencies; its /readyz gives the reason if not.",
                Query("min by (job, instance, dependency) (lakefeed_ready)", "{{job}} {{dependency}}"),
                _READY,
                width=8,
            ),
            number(
                "Alerts firing",
                "Alerts that are firing; docs/runbook.md has a section for each.",
                _COUNT,
                # Without firing alerts there is no series, which means zero.
                'count(ALERTS{alertstate="firing"}) or vector(0)',
                warn_from=1,
                width=2,
                height=7,
            ),
            listing(
                "Versions",
                "Version of each running service.",
                Query("max by (service, version, python, instance) (lakefeed_build_info)", ""),
                ["service", "version", "python", "instance"],
            ),
            lines(
                "Errors by kind",
                "Errors of each service, per second, by kind.",
                units.OpsPerSecond,
                Query(rate("lakefeed_errors_total", by="job, kind"), "{{job}} {{kind}}"),
                width=8,
            ),
            lines(
                "Memory",
                "Resident memory of each process.",
                units.BytesIEC,
                Query("sum by (job, instance) (process_resident_memory_bytes)", "{{job}} {{instance}}"),
                width=8,
            ),
            lines(
                "CPU",
                "CPU usage of each process: 100 % is one core.",
                units.PercentUnit,
                Query(rate("process_cpu_seconds_total", by="job, instance"), "{{job}} {{instance}}"),
                width=8,
            ),
        ],
    )
