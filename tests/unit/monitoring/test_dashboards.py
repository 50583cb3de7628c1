from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.catalogue import PARTS, all_series, service_metrics
from monitoring.check_queries import dashboards, panels, rules
from monitoring.generated import stale
from monitoring.grafana.generate import DASHBOARDS, files
from monitoring.grafana.panels import DATASOURCE_UID, WIDTH
from monitoring.promql import grouped_labels, selectors

BOARDS = list(dashboards().items())
PANELS = [
    pytest.param(panel, id=f"{name}-{panel['title']}") for name, board in BOARDS for panel in panels(board)
]
QUERIES = [
    pytest.param(target["expr"], target["legendFormat"], id=f"{panel['title']}-{target['refId']}")
    for _, board in BOARDS
    for panel in panels(board)
    for target in panel["targets"]
]
board = pytest.mark.parametrize("board", [each for _, each in BOARDS], ids=[name for name, _ in BOARDS])


# Metrics that neither the dashboards nor the rules read, and why.
NOT_SHOWN = {
    "lakefeed_consumer_last_stored_timestamp_seconds": "*Consumed and stored* shows when it stopped",
    "lakefeed_analytics_crawl_last_success_timestamp_seconds": "*Crawls by outcome* shows it",
}


@pytest.fixture(scope="module")
def series() -> dict[str, frozenset[str]]:
    recorded = {rule["record"]: frozenset[str]() for rule in rules() if "record" in rule}
    return {**all_series(), **recorded}


def test_the_committed_dashboards_are_what_the_generator_writes() -> None:
    assert not stale(files()), "run `make docs`"
    assert {name for name, _ in BOARDS} == set(DASHBOARDS)


def test_uids_are_stable_and_unlike() -> None:
    # Links and bookmarks hold them.
    assert [board["uid"] for _, board in BOARDS] == ["lakefeed-pipeline"]


@board
def test_grafanas_own_types_read_it_and_lose_nothing(board: dict[str, Any]) -> None:
    register_default_plugins()
    again = json.dumps(Dashboard.from_json(board), cls=JSONEncoder)
    assert json.loads(again) == board


@board
def test_ids_are_unique(board: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)


@board
def test_panels_fill_the_grid_without_overlaps_or_gaps(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= WIDTH, panel["title"]
        cells = itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"]))
        cells_here = set(cells)
        assert not taken & cells_here, panel["title"]
        taken |= cells_here
    bottom = max(y for _, y in taken) + 1
    assert len(taken) == WIDTH * bottom


@board
def test_the_data_source_is_a_variable_that_begins_with_the_provisioned_one(board: dict[str, Any]) -> None:
    (variable,) = [each for each in board["templating"]["list"] if each["type"] == "datasource"]
    assert (variable["query"], variable["current"]["value"]) == ("prometheus", DATASOURCE_UID)
    for panel in panels(board):
        for holder in (panel, *panel["targets"]):
            assert holder["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    letters = [target["refId"] for target in panel["targets"]]
    assert len(set(letters)) == len(letters)


@pytest.mark.parametrize(("expr", "legend"), QUERIES)
def test_a_query_reads_what_a_service_has(series: dict[str, frozenset[str]], expr: str, legend: str) -> None:
    found = selectors(expr)
    assert found
    known: set[str] = set()
    for selector in found:
        assert selector.name in series, selector.name
        assert selector.labels <= series[selector.name], selector.text
        known |= series[selector.name]
    grouped = grouped_labels(expr)
    assert grouped <= known
    # What is summed away is no longer there to be shown.
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= grouped


def test_each_metric_is_in_a_panel_or_a_rule() -> None:
    shown = [target["expr"] for _, board in BOARDS for panel in panels(board) for target in panel["targets"]]
    read = {
        selector.name
        for expr in (*shown, *(rule["expr"] for rule in rules()))
        for selector in selectors(expr)
    }
    unread = {
        metric.name
        for part in PARTS
        for metric in service_metrics(part)
        if metric.name.startswith("lakefeed_") and not read & metric.series().keys()
    }
    assert unread == NOT_SHOWN.keys(), "add a panel or a rule, or a reason to NOT_SHOWN"
