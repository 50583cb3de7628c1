"""Draws sections of the dashboard from a running Prometheus as an SVG image, without Grafana.

    python -m docs.dashboard http://localhost:9090 docs/images/dashboard.svg

The panels, queries and units are those of the committed dashboard.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from monitoring.check_queries import dashboards, substitute

SECTIONS = (None, "CSV → Kafka", "Kafka → S3")
SECONDS, STEPS = 300, 100
_UNIT, _MARGIN = 50, 4
_COLORS = ("#3274d9", "#e0752d", "#37872d", "#8f3bb8", "#c4162a", "#0a8f8f")
_SI = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_SUFFIXES = {"eps": " ev/s", "mps": " msg/s", "ops": " /s", "reqps": " req/s", "Bps": "B/s", "bytes": "B"}

Point = tuple[float, float]


def shown(value: float, unit: str) -> str:
    """A value with its unit, as short as on an axis."""
    match unit:
        case "s":
            return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
        case "percentunit":
            return f"{value * 100:.3g} %"
        case "locale":
            return f"{value:,.0f}"
    for factor, prefix in _SI:
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{_SUFFIXES.get(unit, '').strip()}"
    return f"{value:.3g}{_SUFFIXES.get(unit, '')}"


def draw(panels: Sequence[dict[str, Any]], prometheus: str, now: float) -> str:
    """The SVG of panels, placed as on the dashboard's grid."""
    drawn, top = [], 0
    for section in SECTIONS:
        chosen = list(_section(panels, section))
        first = min(panel["gridPos"]["y"] for panel in chosen)
        if section is not None:
            drawn.append(_text(_MARGIN + 4, top * 28 + 20, section, 15, weight="bold"))
        for panel in chosen:
            at = panel["gridPos"]
            x, y = at["x"] * _UNIT + _MARGIN, (at["y"] - first + top + (section is not None)) * 28 + _MARGIN
            width, height = at["w"] * _UNIT - 2 * _MARGIN, at["h"] * 28 - 2 * _MARGIN
            drawn.append(
                f'<svg x="{x}" y="{y}" width="{width}" height="{height}">'
                f'<rect width="{width}" height="{height}" rx="3" '
                f'fill="#ffffff" stroke="#d5d8de"/>{_panel(panel, prometheus, now, width, height)}</svg>'
            )
        top += (
            max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in chosen)
            - first
            + (section is not None)
        )
    size = f'width="{24 * _UNIT}" height="{top * 28}" viewBox="0 0 {24 * _UNIT} {top * 28}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="Helvetica, Arial, sans-serif" '
        f'role="img" aria-label="Lakefeed: pipeline"><rect width="100%" height="100%" fill="#f4f5f8"/>'
        f"{''.join(drawn)}</svg>\n"
    )


def _section(panels: Sequence[dict[str, Any]], title: str | None) -> Iterator[dict[str, Any]]:
    inside = title is None
    for panel in panels:
        if panel["type"] == "row":
            inside = panel["title"] == title
        elif inside:
            yield panel


def _panel(panel: dict[str, Any], prometheus: str, now: float, width: float, height: float) -> str:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    title = _text(8, 18, panel["title"], 12 if width > 200 else 10, weight="bold")
    if panel["type"] == "stat":
        found = list(_series(prometheus, panel, now))
        value = shown(found[0][1][-1][1], unit) if found and found[0][1] else "No data"
        return title + _text(width / 2, height - 26, value, 26, anchor="middle")
    return title + _lines(list(_series(prometheus, panel, now)), unit, now, width, height)


def _lines(found: list[tuple[str, list[Point]]], unit: str, now: float, width: float, height: float) -> str:
    highest = max((value for _, points in found for _, value in points), default=0.0) or 1.0
    left, right, upper, lower = 58.0, width - 10, 30.0, height - 38
    drawn = []
    for share in (0.0, 0.5, 1.0):
        y = lower - share * (lower - upper)
        drawn.append(f'<line x1="{left}" x2="{right}" y1="{y}" y2="{y}" stroke="#e4e7eb"/>')
        drawn.append(_text(left - 5, y + 4, shown(highest * share, unit), 10, anchor="end"))
    for when, anchor in ((now - SECONDS, "start"), (now, "end")):
        x = left if anchor == "start" else right
        drawn.append(_text(x, lower + 14, time.strftime("%H:%M", time.gmtime(when)), 10, anchor=anchor))
    place = left
    for (name, points), color in zip(found, _COLORS * len(found), strict=False):
        path = " ".join(
            f"{left + (at - now + SECONDS) / SECONDS * (right - left):.1f},"
            f"{lower - value / highest * (lower - upper):.1f}"
            for at, value in points
        )
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        drawn.append(f'<rect x="{place}" y="{height - 15}" width="10" height="3" fill="{color}"/>')
        drawn.append(_text(place + 14, height - 10, name, 10))
        place += 24 + 6 * len(name)
    return "".join(drawn)


def _series(prometheus: str, panel: dict[str, Any], now: float) -> Iterator[tuple[str, list[Point]]]:
    """Legend and points of each series of a panel; values that are not numbers are left out."""
    for target in panel["targets"]:
        query = {
            "query": substitute(target["expr"]),
            "start": now - SECONDS,
            "end": now,
            "step": SECONDS / STEPS,
        }
        address = f"{prometheus.rstrip('/')}/api/v1/query_range?{urlencode(query)}"
        with urlopen(address, timeout=30) as response:  # noqa: S310 - the given Prometheus
            result = json.load(response)["data"]["result"]
        for series in result:
            name = target.get("legendFormat", "")
            for label, value in series["metric"].items():
                name = name.replace("{{" + label + "}}", value)
            yield name, [(at, float(value)) for at, value in series["values"] if value not in ("NaN", "+Inf")]


def _text(x: float, y: float, text: str, size: int, *, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="#24292e">{escape(text)}</text>'
    )


def main(arguments: Sequence[str]) -> int:
    """Draw the dashboard of the last minutes."""
    if len(arguments) != 2:
        print("usage: python -m docs.dashboard http://HOST:PORT FILE", file=sys.stderr)
        return 2
    prometheus, file = arguments
    panels = dashboards()["lakefeed-pipeline.json"]["panels"]
    Path(file).write_text(draw(panels, prometheus, time.time()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
