"""The dashboard *Lakefeed: pipeline*: it follows an event from the CSV to the query, row by row."""

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
_IN_STATE = (State(1, "in this state", "blue"), State(0, "not", "transparent"))
# Whole numbers with separators, so that figures that should agree can be compared to the last digit.
_COUNT = units.LocaleFormat
_DATA_TOPICS = '{topic!~"__.*"}'


def build() -> dict[str, Any]:
    """The dashboard as JSON."""
    board = (
        builders.Dashboard("Lakefeed: pipeline")
        .uid(UID)
        .description(
            "An event's way from CSV over Kafka and S3 to Athena. Generated: see monitoring/grafana."
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
        board, [_overview(), _csv_to_kafka(), _kafka(), _kafka_to_s3(), _glue(), _athena(), _health()]
    )


def _overview() -> Section:
    return Section(
        None,
        [
            number(
                "Rows read",
                "Data rows read from CSV files since the producer started. "
                "Equals rows rejected plus events delivered when the producer is done.",
                _COUNT,
                "sum(lakefeed_producer_rows_read_total)",
            ),
            number(
                "Rows rejected",
                "Rows since the producer started that could not become events. "
                "They are kept in its rejects file.",
                _COUNT,
                "sum(lakefeed_producer_rows_rejected_total)",
                warn_from=1,
                warn_color=WARNING,
            ),
            number(
                "Events delivered",
                "Events since the producer started that the broker has acknowledged.",
                _COUNT,
                "sum(lakefeed_producer_events_delivered_total)",
            ),
            number(
                "Records in Kafka",
                "Next offset of all partitions, summed up: records ever written, whoever wrote them. "
                "Unlike the counters it survives restarts.",
                _COUNT,
                "sum(kafka_partition_logendoffset)",
            ),
            number(
                "Offsets committed",
                "Offsets up to which every event is stored, summed up. "
                "Equals the records in Kafka when the consumer has caught up.",
                _COUNT,
                "sum(lakefeed_consumer_committed_offset)",
            ),
            number(
                "Events safe in S3",
                "Events that are in the bucket, dead letters included, since the consumers started. "
                "After a restart it also counts the few events that are read a second time.",
                _COUNT,
                "sum(lakefeed_consumer_objects_total)",
            ),
            number(
                "Set aside",
                "Dead letters (no JSON object) and conflicts (another body had the key) since the consumers "
                "started. They are kept under the dead-letter prefix and are not in the table.",
                _COUNT,
                'sum(lakefeed_consumer_objects_total{outcome=~"dead_letter|conflict"})',
                warn_from=1,
            ),
            number(
                "Days not queryable",
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
                "Rows read from the CSV and events that the broker acknowledged, a second.",
                units.EventsPerSecond,
                Query(rate("lakefeed_producer_rows_read_total"), "rows read"),
                Query(rate("lakefeed_producer_events_delivered_total"), "events delivered"),
            ),
            lines(
                "Position in the file",
                "Row of the current file up to which all is delivered or rejected, and the file's rows. "
                "Both are 0 between files.",
                _COUNT,
                Query("sum(lakefeed_producer_file_position_rows)", "position"),
                Query("sum(lakefeed_producer_file_rows)", "rows of the file"),
            ),
            lines(
                "Time of a delivery",
                "From sending an event to the broker's acknowledgement by all replicas in sync.",
                units.Seconds,
                *quantiles("lakefeed_producer_delivery_seconds"),
            ),
            lines(
                "Rejected rows by reason",
                "Rows since the producer started that could not become events, by reason.",
                _COUNT,
                Query("sum by (reason) (lakefeed_producer_rows_rejected_total)", "{{reason}}"),
            ),
            lines(
                "Bytes delivered",
                "Size of the acknowledged events' values, a second, before compression.",
                units.BytesPerSecondSI,
                Query(rate("lakefeed_producer_event_bytes_total"), "values"),
                width=8,
            ),
            lines(
                "Events in flight to Kafka",
                "Events sent that wait for their acknowledgement.",
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
                "Records written to each topic, a second, as the broker counts them.",
                units.MessagesPerSecond,
                Query(rate("kafka_topic_messagesin_total", by="topic", where=_DATA_TOPICS), "{{topic}}"),
            ),
            lines(
                "Bytes in and out",
                "Bytes written to and read from the topics, a second, compressed as they are on the wire.",
                units.BytesPerSecondSI,
                Query(rate("kafka_topic_bytesin_total", by="topic", where=_DATA_TOPICS), "{{topic}} in"),
                Query(rate("kafka_topic_bytesout_total", by="topic", where=_DATA_TOPICS), "{{topic}} out"),
            ),
            lines(
                "Log end by partition",
                "Next offset of each partition: how many records it was ever given.",
                _COUNT,
                Query("sum by (topic, partition) (kafka_partition_logendoffset)", "{{topic}} {{partition}}"),
            ),
            lines(
                "Size on disk",
                "Bytes that the broker keeps of each topic.",
                units.BytesIEC,
                Query("sum by (topic) (kafka_partition_size_bytes)", "{{topic}}"),
            ),
            lines(
                "Time of a request, p99",
                "From a request's arrival to its answer, 99th percentile, as the broker measures it. "
                "A fetch waits for data when there is none.",
                units.Seconds,
                Query('max by (request) (kafka_request_seconds{quantile="0.99"})', "{{request}}"),
            ),
            lines(
                "Requests",
                "Requests that the broker answered, a second, by kind.",
                units.RequestsPerSecond,
                Query(rate("kafka_requests_total", by="request"), "{{request}}"),
            ),
            lines(
                "Partitions in trouble",
                "Partitions with fewer replicas in sync than they should have, and partitions without "
                "a leader. Both should be 0.",
                _COUNT,
                Query("sum(kafka_replicamanager_underreplicatedpartitions)", "under-replicated"),
                Query("sum(kafka_controller_offlinepartitionscount)", "offline"),
            ),
            lines(
                "Idle request handlers",
                "Share of the time in which the broker's request handlers have nothing to do. "
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
                "Events taken and safe",
                "Events read from Kafka, and events that are safe in the bucket by what became of them, "
                "a second.",
                units.EventsPerSecond,
                Query(rate("lakefeed_consumer_events_taken_total"), "taken"),
                Query(rate("lakefeed_consumer_objects_total", by="outcome"), "{{outcome}}"),
            ),
            lines(
                "Time of a put",
                "Time of each single put, failed ones included.",
                units.Seconds,
                *quantiles("lakefeed_consumer_put_seconds"),
            ),
            lines(
                "Retries by cause",
                "Puts that failed and were tried again, a second.",
                units.OpsPerSecond,
                Query(rate("lakefeed_consumer_put_retries_total", by="cause"), "{{cause}}"),
            ),
            lines(
                "Age of an event when stored",
                "From the record's timestamp to its object in the bucket: how fresh the lake is.",
                units.Seconds,
                *quantiles("lakefeed_consumer_event_age_seconds"),
            ),
            lines(
                "Lag by partition",
                "Events of each partition that are not committed yet. Commits are periodic, so under load "
                "it never rests at 0.",
                _COUNT,
                Query("sum by (topic, partition) (lakefeed_consumer_lag_events)", "{{topic}} {{partition}}"),
            ),
            lines(
                "Committed offset by partition",
                "Next offset to read after a restart; everything before it is stored.",
                _COUNT,
                Query(
                    "sum by (topic, partition) (lakefeed_consumer_committed_offset)",
                    "{{topic}} {{partition}}",
                ),
            ),
            lines(
                "Events in flight to S3",
                "Events taken and not yet stored, by worker. LAKEFEED_PUTS_IN_FLIGHT bounds the puts.",
                _COUNT,
                Query("sum by (instance) (lakefeed_consumer_in_flight_events)", "{{instance}}"),
            ),
            lines(
                "Bytes stored",
                "Size of the events stored, a second.",
                units.BytesPerSecondSI,
                Query(rate("lakefeed_consumer_object_bytes_total"), "stored"),
            ),
            lines(
                "Partitions by worker",
                "Partitions that the group has given to each worker.",
                _COUNT,
                Query("sum by (instance) (lakefeed_consumer_assigned_partitions)", "{{instance}}"),
                width=8,
                stacked=True,
            ),
            lines(
                "Rebalances",
                "How often each worker was given partitions anew since it started.",
                _COUNT,
                Query("sum by (instance) (lakefeed_consumer_rebalances_total)", "{{instance}}"),
                width=8,
            ),
            lines(
                "Backlog in seconds of work",
                "The lag divided by what was stored a second in the last 5 minutes: about how long it takes "
                "to catch up if nothing more arrives. Nothing is shown while nothing is stored.",
                units.Seconds,
                Query("lakefeed:consumer_lag_events:sum / lakefeed:consumer_objects:rate5m", "to catch up"),
                width=8,
            ),
        ],
    )


def _glue() -> Section:
    return Section(
        "Glue",
        [
            states(
                "Crawler",
                "Which state the Glue crawler was in when.",
                Query("max by (state) (lakefeed_analytics_crawler_state)", "{{state}}"),
                _IN_STATE,
            ),
            lines(
                "Crawls by outcome",
                "Crawls that ended since the analytics service started, whoever started them.",
                _COUNT,
                Query("sum by (outcome) (lakefeed_analytics_crawls_total)", "{{outcome}}"),
            ),
            lines(
                "Time of a crawl",
                "How long the crawls of the last hour took.",
                units.Seconds,
                *quantiles("lakefeed_analytics_crawl_seconds", window="1h"),
            ),
            lines(
                "Days waiting for a crawl",
                "Day folders in the bucket that the catalogue does not know yet.",
                _COUNT,
                Query("sum(lakefeed_analytics_folders_pending)", "pending"),
            ),
            lines(
                "Tables",
                "Tables in the Glue database: one a topic. More of them mean that a crawl split a topic.",
                _COUNT,
                Query("max(lakefeed_analytics_tables)", "tables"),
                width=12,
            ),
            lines(
                "Partitions by table",
                "Partitions of each table: one a day.",
                _COUNT,
                Query("max by (table) (lakefeed_analytics_partitions)", "{{table}}"),
                width=12,
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
                "Queries of the workgroup, whoever started them, that ended since the service started.",
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
                "Time of a query",
                "How long Athena took for the queries of the last hour, queueing included.",
                units.Seconds,
                *quantiles("lakefeed_analytics_query_seconds", window="1h"),
            ),
            lines(
                "Bytes scanned",
                "Bytes that queries scanned since the analytics service started: what Athena bills.",
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
                "Requests to the HTTP API, a second.",
                units.RequestsPerSecond,
                Query(rate("lakefeed_analytics_http_requests_total", by="status"), "{{status}}"),
            ),
            lines(
                "Time of an API request, p99",
                "How long the requests of the last 5 minutes took, 99th percentile, by route.",
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
                "Scraped",
                "Whether each service answers Prometheus.",
                Query("min by (job, instance) (up)", "{{job}} {{instance}}"),
                _UP,
                width=8,
            ),
            states(
                "Ready",
                "Whether each service can use what it depends on; its /readyz says why not.",
                Query("min by (job, instance, dependency) (lakefeed_ready)", "{{job}} {{dependency}}"),
                _READY,
                width=8,
            ),
            number(
                "Alerts firing",
                "Alerts that fire now; docs/runbook.md has a heading for each.",
                _COUNT,
                # No alert is no series, and that is zero alerts.
                'count(ALERTS{alertstate="firing"}) or vector(0)',
                warn_from=1,
                width=2,
                height=7,
            ),
            listing(
                "Versions",
                "Which version of which service runs.",
                Query("max by (service, version, python, instance) (lakefeed_build_info)", ""),
                ["service", "version", "python", "instance"],
            ),
            lines(
                "Errors by kind",
                "Errors of each service, a second, by kind.",
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
                "Cores that each process uses: 100 % is one core.",
                units.PercentUnit,
                Query(rate("process_cpu_seconds_total", by="job, instance"), "{{job}} {{instance}}"),
                width=8,
            ),
        ],
    )
