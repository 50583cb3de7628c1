"""The metrics of every service. A service adds its own in its `metrics.py`."""

from __future__ import annotations

import platform
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Info
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from lakefeed_common.errors import LakefeedError


class ServiceMetrics:
    """Metrics of one service, in a separate registry; labels have bounded values."""

    def __init__(self, service: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.build = Info("lakefeed_build", "Service, version and Python version.", registry=self.registry)
        self.build.info(
            {
                "service": service,
                "version": version(f"lakefeed-{service}"),
                "python": platform.python_version(),
            }
        )
        self.ready = Gauge(
            "lakefeed_ready",
            "1 while a dependency of the service can be used, 0 while it cannot.",
            ["dependency"],
            registry=self.registry,
        )
        self.errors = Counter(
            "lakefeed_errors_total",
            "Errors by kind: settings, input, unavailable, refused, missing, internal.",
            ["kind"],
            registry=self.registry,
        )
        kinds: tuple[type[LakefeedError], ...] = (LakefeedError, *LakefeedError.__subclasses__())
        for error in kinds:
            self.errors.labels(error.kind)

    def count_error(self, error: BaseException) -> None:
        """Count an error by its kind; errors that are not LakefeedError are `internal`."""
        kind = error.kind if isinstance(error, LakefeedError) else LakefeedError.kind
        self.errors.labels(kind).inc()
