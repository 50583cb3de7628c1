"""Panel types of the dashboards. Each panel has a description and a unit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE_UID = "lakefeed-prometheus"
# With a variable, the dashboard can be imported into a Grafana with another data source.
DATASOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")

GOOD, WARNING, BAD, PLAIN = "green", "orange", "red", "text"
WIDTH = 24


@dataclass(frozen=True)
class Query:
    """A PromQL expression and the legend of its series."""

    expr: str
    legend: str


@dataclass(frozen=True)
class State:
    """How a state timeline displays a value."""

    value: int
    text: str
    color: str


@dataclass(frozen=True)
class Section:
    """A row of the dashboard with its panels, from left to right; `None` is the untitled first one."""

    title: str | None
    panels: Sequence[timeseries.Panel | stat.Panel | statetimeline.Panel | table.Panel]


def rate(counter: str, *, by: str = "", where: str = "") -> str:
    """Per-second rate of a counter, summed over the labels that are not in `by`."""
    grouping = f" by ({by}) " if by else ""
    return f"sum{grouping}(rate({counter}{where}[$__rate_interval]))"


def quantiles(histogram: str, *, window: str = "$__rate_interval") -> tuple[Query, ...]:
    """Median and 99th percentile of a histogram."""
    buckets = f"sum by (le) (rate({histogram}_bucket[{window}]))"
    return tuple(Query(f"histogram_quantile({q / 100:g}, {buckets})", f"p{q}") for q in (50, 99))


def lines(
    title: str, description: str, unit: str, *queries: Query, width: int = 6, stacked: bool = False
) -> timeseries.Panel:
    """Values over time, never below 0."""
    legend = (
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    tooltip = (
        common_builders.VizTooltipOptions()
        .mode(common.TooltipDisplayMode.MULTI)
        .sort(common.SortOrder.DESCENDING)
    )
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .min(0)
        .span(width)
        .height(7)
        .datasource(DATASOURCE)
        .fill_opacity(40 if stacked else 8)
        .show_points(common.VisibilityMode.NEVER)
        .legend(legend)
        .tooltip(tooltip)
    )
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    for query, letter in zip(queries, "ABCDEFGH", strict=False):
        panel.with_target(_target(query, letter).range())
    return panel


def number(
    title: str,
    description: str,
    unit: str,
    expr: str,
    *,
    warn_from: float | None = None,
    warn_color: str = BAD,
    width: int = 3,
    height: int = 4,
) -> stat.Panel:
    """The latest value as a large number; coloured if it is at least `warn_from`."""
    steps = [dashboard.Threshold(value=None, color=PLAIN if warn_from is None else GOOD)]
    if warn_from is not None:
        steps.append(dashboard.Threshold(value=warn_from, color=warn_color))
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .span(width)
        .height(height)
        .datasource(DATASOURCE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.VALUE)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .thresholds(_thresholds(steps))
        .with_target(_target(Query(expr, title), "A").instant())
    )


def states(
    title: str, description: str, query: Query, shown: Sequence[State], *, width: int = 6
) -> statetimeline.Panel:
    """The state of each series over time, as coloured bars."""
    mapping = dashboard.ValueMap(
        options={
            str(state.value): dashboard.ValueMappingResult(text=state.text, color=state.color, index=at)
            for at, state in enumerate(shown)
        }
    )
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        # Each value is displayed as text, which has no unit.
        .unit("none")
        .span(width)
        .height(7)
        .datasource(DATASOURCE)
        .mappings([mapping])
        .show_value(common.VisibilityMode.NEVER)
        .row_height(0.8)
        .fill_opacity(80)
        .merge_values(True)
        .with_target(_target(query, "A").range())
    )


def listing(
    title: str, description: str, query: Query, columns: Sequence[str], *, width: int = 6
) -> table.Panel:
    """The labels of the series as a table."""
    organize: dict[str, object] = {"include": {"names": list(columns)}}
    return (
        table.Panel()
        .title(title)
        .description(description)
        .unit("string")
        .span(width)
        .height(7)
        .datasource(DATASOURCE)
        .show_header(True)
        .with_transformation(dashboard.DataTransformerConfig(id_val="filterFieldsByName", options=organize))
        .with_target(_target(query, "A").instant().format(PromQueryFormat.TABLE))
    )


def assemble(board: builders.Dashboard, sections: Sequence[Section]) -> dict[str, Any]:
    """The dashboard as JSON; panels are numbered and placed on the grid in the given order."""
    number = 0
    for section in sections:
        if section.title is not None:
            number += 1
            board.with_row(builders.Row(section.title).id(number))
        for panel in section.panels:
            number += 1
            board.with_panel(panel.id(number))
    board.with_variable(
        builders.DatasourceVariable("datasource")
        .label("Data source")
        .type("prometheus")
        .current(dashboard.VariableOption(text="Prometheus", value=DATASOURCE_UID, selected=True))
    )
    plain: dict[str, Any] = json.loads(json.dumps(board.build(), cls=JSONEncoder))
    return plain


def _target(query: Query, letter: str) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .expr(query.expr)
        .legend_format(query.legend)
        .ref_id(letter)
        .datasource(DATASOURCE)
    )


def _thresholds(steps: list[dashboard.Threshold]) -> Builder[dashboard.ThresholdsConfig]:
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)
