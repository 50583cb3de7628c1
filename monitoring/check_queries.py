"""Finds queries in dashboards and rules that return no data from a running Prometheus.

`python -m monitoring.check_queries http://localhost:9090` lists them and returns 1 if there are any. Run it
after the pipeline has processed data: some series start with the first query or the first crawl.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from monitoring.promql import selectors

_MONITORING = Path(__file__).resolve().parent
# Longest name first: `$__rate_interval` must not match a shorter variable.
_VARIABLES = {"__rate_interval": "1m", "__interval": "15s", "__range": "1h"}
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")
_COMPACTOR_PREFIX = "lakefeed_analytics_compact_"
_COMPACTOR = f"{_COMPACTOR_PREFIX}last_success_timestamp_seconds"


def dashboards() -> dict[str, dict[str, Any]]:
    """The committed dashboards by file name."""
    folder = _MONITORING / "grafana" / "dashboards"
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def rules() -> Iterator[dict[str, Any]]:
    """The recording and alerting rules."""
    for path in sorted((_MONITORING / "prometheus" / "rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All panels of a dashboard, including those in collapsed rows, without the rows themselves."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def queries() -> list[tuple[str, str]]:
    """The queries that must return data, each with its source.

    For dashboards and recording rules, these are the whole expressions. An alert's expression returns nothing
    in a healthy pipeline, so its vector selectors are checked individually: an alert with a selector that
    matches nothing, for example because of a misspelt metric or label value, can never fire.
    """
    found = [
        (f"{name}: {panel['title']}", substitute(target["expr"]))
        for name, dashboard in dashboards().items()
        for panel in panels(dashboard)
        for target in panel.get("targets", [])
    ]
    for rule in rules():
        if "record" in rule:
            found.append((f"rule {rule['record']}", rule["expr"]))
        else:
            found += [(f"alert {rule['alert']}", each.text) for each in selectors(rule["expr"])]
    return list(dict.fromkeys(found))


def substitute(expression: str) -> str:
    """The expression with Grafana's variables replaced: built-in ones by typical values, others by `.*`."""
    return _VARIABLE.sub(lambda match: _VARIABLES.get(match[1] or match[2], ".*"), expression)


def empty(prometheus_url: str) -> list[tuple[str, str, str]]:
    """The queries that return no data: source, expression, and the reason.

    Those of the compactor, which is optional, are left out if there is none.
    """
    optional = _reason_for_no_data(prometheus_url, _COMPACTOR) is not None
    results = (
        (source, expr, _reason_for_no_data(prometheus_url, expr))
        for source, expr in queries()
        if not (optional and _COMPACTOR_PREFIX in expr)
    )
    return [(source, expr, reason) for source, expr, reason in results if reason is not None]


def _reason_for_no_data(prometheus_url: str, expression: str) -> str | None:
    """None if there is data, otherwise the reason. NaN is data: it is the quantile of an empty histogram."""
    address = f"{prometheus_url.rstrip('/')}/api/v1/query?{urlencode({'query': expression})}"
    try:
        with urlopen(address, timeout=30) as response:  # noqa: S310 - the given Prometheus
            result = json.load(response)
    except HTTPError as error:
        return error.read().decode(errors="replace")
    return None if result["data"]["result"] else "no data"


def main(arguments: Sequence[str]) -> int:
    """Print the queries without data."""
    if len(arguments) != 1:
        print("usage: python -m monitoring.check_queries http://HOST:PORT", file=sys.stderr)
        return 2
    without = empty(arguments[0])
    for source, expression, reason in without:
        print(f"{source}: {reason}\n    {expression}")
    print(f"{len(queries()) - len(without)} of {len(queries())} queries return data")
    return 1 if without else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
