"""Generates docs/metrics.md from the metrics classes and the rules of the broker's JMX agent."""

from __future__ import annotations

from collections.abc import Iterable

from docs.markdown import NOTE, code, table
from monitoring.catalogue import PARTS, Metric, broker_metrics, service_metrics, shared_metrics

_HEAD = f"""{NOTE}

# Metrics

Every service serves its metrics at `/metrics` in Prometheus's format; Prometheus adds the labels `job` and
`instance`. Counters start at 0 when a service starts. A histogram `x` consists of `x_bucket` (with the
label `le`), `x_sum` and `x_count`. The dashboard *Lakefeed: pipeline* shows nearly all of them, and the
[runbook](runbook.md) says what to do when an alert fires.

"""
_COLUMNS = ("Metric", "Type", "Labels", "Unit", "Meaning")
# Longest suffix first.
_UNITS = {
    "_timestamp_seconds": "Unix time",
    "_seconds": "s",
    "_bytes": "B",
    "_usd": "USD",
    "_ratio": "0 to 1",
    "_rows": "rows",
    "_events": "events",
}


def document() -> str:
    """The whole document: shared metrics, those of each service, and the broker's."""
    # Which others exist (process_…, python_…) depends on the machine.
    shared = [metric for metric in shared_metrics() if metric.name.startswith("lakefeed_")]
    common = {metric.name for metric in shared}
    text = _HEAD + "## Every service\n\n" + _metrics(shared)
    text += (
        "The Python client adds its own: `process_…` (memory, CPU, open files; on Linux) "
        "and `python_gc_…`.\n\n"
    )
    for part in PARTS:
        own = [
            metric
            for metric in service_metrics(part)
            if metric.name.startswith("lakefeed_") and metric.name not in common
        ]
        if own:
            text += f"## The {part} service\n\n" + _metrics(own)
    text += (
        "## The broker\n\n"
        "The JMX agent in Kafka's JVM serves these metrics, as configured in `broker/jmx-exporter.yml`, and "
        "those of the JVM itself (`jvm_…`, `process_…`). Metrics of a topic start with its first record, "
        "those of failures with the first failure.\n\n"
    )
    rows = (
        (code(each.name), each.kind, ", ".join(map(code, each.labels)), _unit(each.name))
        for each in broker_metrics()
    )
    return text + table(_COLUMNS[:-1], rows)


def _metrics(metrics: Iterable[Metric]) -> str:
    rows = (
        (code(each.name), each.kind, ", ".join(map(code, each.labels)), _unit(each.name), each.description)
        for each in metrics
    )
    return table(_COLUMNS, rows) + "\n"


def _unit(name: str) -> str:
    bare = name.removesuffix("_total").removesuffix("_max")
    return next((unit for suffix, unit in _UNITS.items() if bare.endswith(suffix)), "")
