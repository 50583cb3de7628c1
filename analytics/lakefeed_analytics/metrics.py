"""All metrics of the analytics service. Labels have bounded values: never SQL or an id."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

from lakefeed_analytics.athena import QueryStatus
from lakefeed_analytics.crawl import CrawlerStatus
from lakefeed_common.metrics import ServiceMetrics

CRAWLER_STATES = ("READY", "RUNNING", "STOPPING")
CRAWL_OUTCOMES = ("SUCCEEDED", "FAILED", "CANCELLED")
# Labels of queries that are not named queries.
SAMPLE, FREE = "sample", "free"
QUERY_OUTCOMES = ("SUCCEEDED", "FAILED", "CANCELLED")
_CRAWL_BUCKETS = (5, 15, 30, 60, 120, 300, 600, 1800, 3600)
_QUERY_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class AnalyticsMetrics(ServiceMetrics):
    """The metrics of the analytics service."""

    def __init__(self, named_queries: Iterable[str] = ()) -> None:
        """Start at 0, with a series for each named query and outcome."""
        super().__init__("analytics")
        own = self.registry
        self.crawler_state = Gauge(
            "lakefeed_analytics_crawler_state",
            "1 for the current state of the Glue crawler: READY, RUNNING or STOPPING.",
            ["state"],
            registry=own,
        )
        self.crawls = Counter(
            "lakefeed_analytics_crawls_total",
            "Crawls that ended, by outcome, including those started by other clients.",
            ["outcome"],
            registry=own,
        )
        self.crawl_seconds = Histogram(
            "lakefeed_analytics_crawl_seconds", "Duration of crawls.", buckets=_CRAWL_BUCKETS, registry=own
        )
        self.crawl_success = Gauge(
            "lakefeed_analytics_crawl_last_success_timestamp_seconds",
            "Start of the last successful crawl, in Unix time; 0 before the first.",
            registry=own,
        )
        self.folders_pending = Gauge(
            "lakefeed_analytics_folders_pending",
            "Day folders in the bucket that the catalogue does not know yet.",
            registry=own,
        )
        self.tables = Gauge("lakefeed_analytics_tables", "Tables in the Glue database.", registry=own)
        self.partitions = Gauge(
            "lakefeed_analytics_partitions", "Partitions of a topic's table.", ["table"], registry=own
        )
        self.queries = Counter(
            "lakefeed_analytics_queries_total",
            "Queries of the workgroup that ended, including those of other clients, by outcome and named "
            "query (`sample`, `free` for others).",
            ["query", "state"],
            registry=own,
        )
        self.queries_running = Gauge(
            "lakefeed_analytics_queries_running",
            "Queries of the workgroup that have not ended.",
            registry=own,
        )
        self.query_seconds = Histogram(
            "lakefeed_analytics_query_seconds",
            "Duration of queries, including time in the queue.",
            buckets=_QUERY_BUCKETS,
            registry=own,
        )
        self.scanned_bytes = Counter(
            "lakefeed_analytics_query_scanned_bytes_total",
            "Bytes that the workgroup's queries scanned.",
            registry=own,
        )
        self.cost = Counter(
            "lakefeed_analytics_query_cost_usd_total",
            "Estimated cost of the queries, in US dollars.",
            registry=own,
        )
        self.http_requests = Counter(
            "lakefeed_analytics_http_requests_total",
            "API requests by method, route and status.",
            ["method", "route", "status"],
            registry=own,
        )
        self.http_seconds = Histogram(
            "lakefeed_analytics_http_request_seconds",
            "Duration of API requests.",
            ["method", "route"],
            registry=own,
        )
        for state in CRAWLER_STATES:
            self.crawler_state.labels(state).set(0)
        for outcome in CRAWL_OUTCOMES:
            self.crawls.labels(outcome)
        # A rate needs a series that starts at 0, otherwise it misses the first query of a label.
        for query in (*named_queries, SAMPLE, FREE):
            for outcome in QUERY_OUTCOMES:
                self.queries.labels(query, outcome)

    def crawler(self, status: CrawlerStatus) -> None:
        """Set the state of the crawler."""
        for state in CRAWLER_STATES:
            self.crawler_state.labels(state).set(state == status.state)

    def query_ended(self, label: str, status: QueryStatus, price_per_terabyte: float) -> None:
        """Count a query that ended."""
        self.queries.labels(label, status.state).inc()
        self.query_seconds.observe(status.seconds)
        self.scanned_bytes.inc(status.scanned_bytes)
        self.cost.inc(status.cost_usd(price_per_terabyte))


class CompactMetrics(ServiceMetrics):
    """The metrics of `lakefeed-analytics compact --every`."""

    def __init__(self, topics: Iterable[str] = ()) -> None:
        """Start at 0, with a series for each topic."""
        super().__init__("analytics")
        own = self.registry
        self.watermark = Gauge(
            "lakefeed_analytics_compact_watermark",
            "Offset below which a topic's Iceberg table has every event of a partition.",
            ["topic", "partition"],
            registry=own,
        )
        self.lag = Gauge(
            "lakefeed_analytics_compact_lag_events",
            "Offsets that the consumer group has committed and a topic's Iceberg table does not have.",
            ["topic", "partition"],
            registry=own,
        )
        self.success = Gauge(
            "lakefeed_analytics_compact_last_success_timestamp_seconds",
            "When a topic's Iceberg table last had everything that was committed, in Unix time; before the "
            "first time, when the service started.",
            ["topic"],
            registry=own,
        )
        self.commits = Counter(
            "lakefeed_analytics_compact_commits_total",
            "Commits to a topic's Iceberg table.",
            ["topic"],
            registry=own,
        )
        self.refused = Counter(
            "lakefeed_analytics_compact_refused_commits_total",
            "Attempts that were refused because another commit came first, or failed; all are repeated.",
            ["topic"],
            registry=own,
        )
        self.rows = Counter(
            "lakefeed_analytics_compact_rows_total",
            "Rows added to a topic's Iceberg table.",
            ["topic"],
            registry=own,
        )
        self.unfit = Counter(
            "lakefeed_analytics_compact_unfit_rows_total",
            "Added rows with a value that does not fit its column.",
            ["topic"],
            registry=own,
        )
        self.files = Counter(
            "lakefeed_analytics_compact_files_total",
            "Data files added to a topic's Iceberg table.",
            ["topic"],
            registry=own,
        )
        self.bytes = Counter(
            "lakefeed_analytics_compact_written_bytes_total",
            "Size of the data files added to a topic's Iceberg table.",
            ["topic"],
            registry=own,
        )
        self.seconds = Histogram(
            "lakefeed_analytics_compact_seconds",
            "Duration of compactions of a topic, including those that failed.",
            ["topic"],
            buckets=_CRAWL_BUCKETS,
            registry=own,
        )
        for topic in topics:
            self.success.labels(topic).set_to_current_time()
            self.seconds.labels(topic)
            for counter in (self.commits, self.refused, self.rows, self.unfit, self.files, self.bytes):
                counter.labels(topic)
