from __future__ import annotations

from pathlib import Path

from monitoring.catalogue import PARTS, BrokerMetric, Metric, all_series, broker_metrics, service_metrics


def test_series_are_named_as_prometheus_sees_them() -> None:
    series = all_series()
    assert series["lakefeed_consumer_objects_total"] == {"outcome", "job", "instance"}
    assert series["lakefeed_consumer_put_seconds_bucket"] == {"le", "job", "instance"}
    assert {"service", "version", "python"} < series["lakefeed_build_info"]
    assert "process_resident_memory_bytes" in series
    assert "lakefeed_consumer_put_seconds" not in series
    assert "lakefeed_consumer_objects" not in series


def test_a_metric_is_what_its_class_says() -> None:
    found = {metric.name: metric for metric in service_metrics("consumer")}
    assert found["lakefeed_consumer_lag_events"] == Metric(
        "lakefeed_consumer_lag_events",
        "gauge",
        ("topic", "partition"),
        "Events of an assigned partition that are not committed yet.",
    )


def test_only_the_buckets_of_a_histogram_have_the_label_le() -> None:
    histograms = [metric for part in PARTS for metric in service_metrics(part) if metric.kind == "histogram"]
    assert histograms
    for metric in histograms:
        assert "le" not in metric.labels, metric.name
        with_le = [name for name, labels in metric.series().items() if "le" in labels]
        assert with_le == [f"{metric.name}_bucket"]


def test_every_alternative_of_a_jmx_rule_is_a_metric(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(
        "rules:\n"
        "- pattern: kafka.log<type=Log, name=(LogEnd|LogStart), topic=((?!__).+), partition=(\\d+)><>V\n"
        "  name: kafka_$1_offset\n"
        "  type: GAUGE\n"
        "  labels: {topic: $2, Partition: $3}\n"
    )
    labels = ("topic", "partition")
    assert broker_metrics(rules) == [
        BrokerMetric("kafka_logend_offset", "gauge", labels),
        BrokerMetric("kafka_logstart_offset", "gauge", labels),
    ]
