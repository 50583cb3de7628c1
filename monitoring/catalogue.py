"""All metrics that can be scraped: the services' from their `metrics.py`, the broker's from its JMX rules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import Metric as Family
from prometheus_client.metrics import MetricWrapperBase

from lakefeed_common.metrics import ServiceMetrics

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("producer", "consumer", "analytics", "local")

# Metrics that the broker's JVM agent adds, as far as they are used here.
# https://prometheus.github.io/client_java/instrumentation/jvm/
_JVM = {
    "jvm_memory_used_bytes": frozenset({"area"}),
    "jvm_memory_max_bytes": frozenset({"area"}),
    "jvm_gc_collection_seconds_count": frozenset({"gc"}),
    "jvm_gc_collection_seconds_sum": frozenset({"gc"}),
    "process_cpu_seconds_total": frozenset[str](),
    "process_resident_memory_bytes": frozenset[str](),
}
# Series that Prometheus creates for every target and every alert.
_PROMETHEUS = {"up": frozenset[str](), "ALERTS": frozenset({"alertname", "alertstate", "severity"})}
_TARGET = frozenset({"job", "instance"})


@dataclass(frozen=True)
class Metric:
    """One metric of a service; `name` is as used in queries, without the suffixes of a histogram."""

    name: str
    kind: str
    labels: tuple[str, ...]
    description: str

    def series(self) -> dict[str, frozenset[str]]:
        """The names that can be used in queries, each with its labels."""
        labels = frozenset(self.labels)
        if self.kind not in ("histogram", "summary"):
            return {self.name: labels}
        parts = {f"{self.name}_sum": labels, f"{self.name}_count": labels}
        if self.kind == "histogram":
            parts[f"{self.name}_bucket"] = labels | {"le"}
        return parts


@dataclass(frozen=True)
class BrokerMetric:
    """One metric created by the broker's JMX rules."""

    name: str
    kind: str
    labels: tuple[str, ...]


def metrics_class(part: str) -> type[Any] | None:
    """The catalogue class of a part, or None if it has none."""
    module = f"lakefeed_{part}.metrics"
    if find_spec(module) is None:
        return None
    for found in vars(import_module(module)).values():
        if isinstance(found, type) and issubclass(found, ServiceMetrics) and found.__module__ == module:
            return found
    return None


def service_metrics(part: str) -> list[Metric]:
    """All metrics of a service, including those of every service; none if it has no catalogue."""
    cls = metrics_class(part)
    return [] if cls is None else _metrics(cls())


def shared_metrics() -> list[Metric]:
    """The metrics that every service has."""
    return _metrics(ServiceMetrics("common"))


def _metrics(service: ServiceMetrics) -> list[Metric]:
    declared = {
        value._name: value._labelnames  # the library has no public API for them
        for value in vars(service).values()
        if isinstance(value, MetricWrapperBase)
    }
    return [_metric(family, declared.get(family.name)) for family in service.registry.collect()]


def _metric(family: Family, labels: tuple[str, ...] | None) -> Metric:
    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    if labels is None or family.type == "info":
        names = {name: None for sample in family.samples for name in sample.labels}
        # `le` is a label of the buckets only.
        labels = tuple(name for name in names if (family.type, name) != ("histogram", "le"))
    return Metric(family.name.removesuffix(suffix) + suffix, family.type, labels, family.documentation)


def broker_metrics(rules: Path = ROOT / "broker" / "jmx-exporter.yml") -> list[BrokerMetric]:
    """The metrics that the rules of the broker's JMX agent create, one per alternative."""
    config = yaml.safe_load(rules.read_text())
    found: list[BrokerMetric] = []
    for rule in config["rules"]:
        labels = tuple(name.lower() for name in rule.get("labels", {}))
        found += [BrokerMetric(name.lower(), rule["type"].lower(), labels) for name in _names(rule)]
    return found


def _names(rule: dict[str, Any]) -> list[str]:
    """The rule's name with each `$n` replaced by the alternatives of the n-th group in the pattern."""
    groups = re.findall(r"\((?!\?)((?:[^()]|\([^()]*\))*)\)", rule["pattern"])
    pieces = re.split(r"\$(\d)", rule["name"])
    # Every second piece is the number of a group.
    choices = [groups[int(text) - 1].split("|") if at % 2 else [text] for at, text in enumerate(pieces)]
    return ["".join(choice) for choice in product(*choices)]


def all_series() -> dict[str, frozenset[str]]:
    """All series names that can be queried, with their possible labels."""
    series: dict[str, frozenset[str]] = {}
    found = [metric.series() for part in PARTS for metric in service_metrics(part)]
    found += [{metric.name: frozenset(metric.labels)} for metric in broker_metrics()]
    for names in (*found, _JVM, _PROMETHEUS):
        for name, labels in names.items():
            series[name] = series.get(name, frozenset()) | labels | _TARGET
    return series
