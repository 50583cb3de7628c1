"""What Kubernetes gets of the monitoring files."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from monitoring.catalogue import ROOT
from monitoring.generated import stale
from monitoring.prometheus.kubernetes import files, in_pods, prometheus_rule
from monitoring.promql import narrowed

MONITORING = ROOT / "monitoring"


def test_the_committed_files_are_what_would_be_generated() -> None:
    assert not stale(files()), "run `make docs`"


@pytest.mark.parametrize(
    ("folder", "pattern"),
    [
        ("grafana/dashboards", "*.json"),
        ("grafana/provisioning", "*/*.yml"),
        ("prometheus/rules", "*.yml"),
    ],
)
def test_every_file_is_in_its_configmap(folder: str, pattern: str) -> None:
    place = MONITORING / folder
    kustomization = yaml.safe_load((place / "kustomization.yaml").read_text())
    listed = {Path(name) for each in kustomization["configMapGenerator"] for name in each["files"]}
    assert {path.relative_to(place) for path in place.glob(pattern)} == listed


def test_jobs_and_their_ports_are_those_of_the_containers() -> None:
    config = yaml.safe_load((MONITORING / "prometheus" / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in in_pods(config)["scrape_configs"]}
    assert list(jobs) == [job["job_name"] for job in config["scrape_configs"]]
    ports = {name: job["dns_sd_configs"][0]["port"] for name, job in jobs.items() if name != "prometheus"}
    assert ports == {"producer": 8001, "consumer": 8002, "analytics": 8003, "kafka": 7071}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("up == 0", 'up{a="b"} == 0'),
        ('sum by (job) (up{job=~"x|y"})', 'sum by (job) (up{job=~"x|y", a="b"})'),
        ("deriv(x:y:sum[15m]) > 0", "deriv(x:y:sum[15m]) > 0"),
        ("rate(up{}[5m]) or absent(up)", 'rate(up{a="b"}[5m]) or absent(up{a="b"})'),
    ],
)
def test_a_matcher_is_added_to_each_series(expression: str, expected: str) -> None:
    assert narrowed(expression, 'a="b"', {"x:y:sum"}) == expected


def test_rules_of_a_shared_prometheus_read_our_series_only() -> None:
    groups = [
        {"name": "x", "rules": [{"record": "a:b", "expr": "sum(up)"}, {"alert": "C", "expr": "a:b > 0"}]}
    ]
    (group,) = prometheus_rule(groups)["spec"]["groups"]
    assert [rule["expr"] for rule in group["rules"]] == [
        'sum(up{app_kubernetes_io_part_of="lakefeed"})',
        "a:b > 0",
    ]
