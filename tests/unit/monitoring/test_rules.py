from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.catalogue import ROOT, all_series
from monitoring.check_queries import rules
from monitoring.promql import grouped_labels, selectors

PROMETHEUS = ROOT / "monitoring" / "prometheus"
ALERTS = [pytest.param(rule, id=rule["alert"]) for rule in rules() if "alert" in rule]


def promtool_cases() -> list[dict[str, Any]]:
    return [
        case
        for path in (PROMETHEUS / "tests").glob("*.yml")
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
    ]


def test_rules_read_what_a_service_has() -> None:
    recorded = {rule["record"]: frozenset[str]() for rule in rules() if "record" in rule}
    series = {**all_series(), **recorded}
    for rule in rules():
        for selector in selectors(rule["expr"]):
            assert selector.name in series, rule
            assert selector.labels <= series[selector.name], selector.text
            assert grouped_labels(rule["expr"]) <= series[selector.name], rule


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["for"]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["description"]
    path, heading = alert["annotations"]["runbook_url"].split("#")
    headings = re.findall(r"^## (.+)$", (ROOT / path).read_text(), re.MULTILINE)
    assert heading in [each.lower() for each in headings]
    assert heading == alert["alert"].lower()


def test_the_runbook_has_no_heading_without_an_alert() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    assert headings == [rule["alert"] for rule in rules() if "alert" in rule]


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_tested_before_and_after_it_fires(alert: dict[str, Any]) -> None:
    cases = [case for case in promtool_cases() if case["alertname"] == alert["alert"]]
    assert any(case["exp_alerts"] for case in cases)
    assert any(not case["exp_alerts"] for case in cases)


@pytest.mark.parametrize("alert", ALERTS)
def test_promtool_expects_the_annotations_of_the_rule(alert: dict[str, Any]) -> None:
    expected = [
        firing["exp_annotations"]
        for case in promtool_cases()
        if case["alertname"] == alert["alert"]
        for firing in case["exp_alerts"]
    ]
    assert expected
    for texts in expected:
        assert texts.keys() == alert["annotations"].keys()
        for name, template in alert["annotations"].items():
            fixed = re.split(r"\{\{.*?\}\}", template)
            assert re.fullmatch(".*".join(map(re.escape, fixed)), texts[name]), texts[name]


def test_jobs_are_those_that_rules_name() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    (down,) = [rule for rule in rules() if rule.get("alert") == "LakefeedServiceDown"]
    (named,) = re.findall(r'job=~"([^"]+)"', down["expr"])
    assert set(named.split("|")) == jobs - {"prometheus"}


def test_files_that_promtool_tests_name_exist() -> None:
    # promtool resolves rule_files from the test file's folder.
    for path in (PROMETHEUS / "tests").glob("*.yml"):
        for name in yaml.safe_load(path.read_text())["rule_files"]:
            assert Path(path.parent / name).is_file()
