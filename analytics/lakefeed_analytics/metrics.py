"""Every metric of the analytics service, once. Labels have bounded values only: never SQL or an id."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

from lakefeed_analytics.athena import QueryStatus
from lakefeed_analytics.crawl import CrawlerStatus
from lakefeed_common.metrics import ServiceMetrics

CRAWLER_STATES = ("READY", "RUNNING", "STOPPING")
CRAWL_OUTCOMES = ("SUCCEEDED", "FAILED", "CANCELLED")
# How queries are counted that are not named ones.
SAMPLE, FREE = "sample", "free"
QUERY_OUTCOMES = ("SUCCEEDED", "FAILED", "CANCELLED")
_CRAWL_BUCKETS = (5, 15, 30, 60, 120, 300, 600, 1800, 3600)
_QUERY_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class AnalyticsMetrics(ServiceMetrics):
    """What the analytics service counts and measures."""

    def __init__(self, named_queries: Iterable[str] = ()) -> None:
        """Begin at 0, with a series for each named query and for each outcome."""
        super().__init__("analytics")
        own = self.registry
        self.crawler_state = Gauge(
            "lakefeed_analytics_crawler_state",
            "1 for the state that the Glue crawler is in: READY, RUNNING or STOPPING.",
            ["state"],
            registry=own,
        )
        self.crawls = Counter(
            "lakefeed_analytics_crawls_total",
            "Crawls that ended, by outcome, whoever started them.",
            ["outcome"],
            registry=own,
        )
        self.crawl_seconds = Histogram(
            "lakefeed_analytics_crawl_seconds", "How long crawls took.", buckets=_CRAWL_BUCKETS, registry=own
        )
        self.crawl_success = Gauge(
            "lakefeed_analytics_crawl_last_success_timestamp_seconds",
            "When the last successful crawl began, in Unix time; 0 before the first.",
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
            "Queries of the workgroup that ended, whoever started them, by outcome and named query "
            "(`sample`, `free` for others).",
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
            "How long Athena took for queries, queueing included.",
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
            "Requests to the API by method, route and status.",
            ["method", "route", "status"],
            registry=own,
        )
        self.http_seconds = Histogram(
            "lakefeed_analytics_http_request_seconds",
            "How long requests to the API took.",
            ["method", "route"],
            registry=own,
        )
        for state in CRAWLER_STATES:
            self.crawler_state.labels(state).set(0)
        for outcome in CRAWL_OUTCOMES:
            self.crawls.labels(outcome)
        # A rate wants a series that begins at 0: the first query of a kind would not be seen in it.
        for query in (*named_queries, SAMPLE, FREE):
            for outcome in QUERY_OUTCOMES:
                self.queries.labels(query, outcome)

    def crawler(self, status: CrawlerStatus) -> None:
        """Set what the crawler does."""
        for state in CRAWLER_STATES:
            self.crawler_state.labels(state).set(state == status.state)

    def query_ended(self, label: str, status: QueryStatus, price_per_terabyte: float) -> None:
        """Count a query that ended."""
        self.queries.labels(label, status.state).inc()
        self.query_seconds.observe(status.seconds)
        self.scanned_bytes.inc(status.scanned_bytes)
        self.cost.inc(status.cost_usd(price_per_terabyte))
