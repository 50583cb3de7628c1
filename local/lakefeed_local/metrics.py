"""Every metric of the crawl service."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from lakefeed_common.metrics import ServiceMetrics


class LocalMetrics(ServiceMetrics):
    """Metrics of the crawl service, next to those that every service has."""

    def __init__(self) -> None:
        super().__init__("local")
        self.crawls = Counter(
            "lakefeed_local_crawls_total",
            "Crawls that ended, by outcome: succeeded, failed, cancelled.",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in ("succeeded", "failed", "cancelled"):
            self.crawls.labels(outcome)
        self.seconds = Histogram(
            "lakefeed_local_crawl_seconds",
            "How long a crawl took, whatever its outcome.",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
            registry=self.registry,
        )
        self.running = Gauge(
            "lakefeed_local_crawls_running", "Crawls that are being done.", registry=self.registry
        )
        self.objects = Counter(
            "lakefeed_local_crawl_objects_total",
            "Objects that crawls found under their targets.",
            registry=self.registry,
        )
