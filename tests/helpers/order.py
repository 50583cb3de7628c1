"""The order in which test processes take tests: the longest first, so that none runs alone at the end.

`tests/durations.json` has the seconds of tests that take long, as `make durations` has measured them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

DURATIONS = Path(__file__).resolve().parents[1] / "durations.json"
# Shorter ones are not recorded: their order decides nothing.
_RECORDED_SECONDS = 1.0


# They share an example that Terraform has applied, which takes longer than any of them.
_ON_THE_TUTORIAL = {f"tests/infra/test_{name}.py" for name in ("overlay", "rights", "tutorial")}


def unit_of_work(nodeid: str) -> str:
    """What one process runs in one go: a file of unit tests, but a single test of the slower folders."""
    file = nodeid.split("::", 1)[0]
    if file in _ON_THE_TUTORIAL:
        return "tests/infra/tutorial"
    return file if nodeid.startswith("tests/unit/") else nodeid


class LongestFirst(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives each test process the next unit of work in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of_work(nodeid)


def sort(items: list[pytest.Item]) -> None:
    """Put the longest units of work first; what is not recorded keeps its (random) order behind them."""
    recorded: dict[str, float] = json.loads(DURATIONS.read_text())
    seconds: dict[str, float] = defaultdict(float)
    for item in items:
        seconds[unit_of_work(item.nodeid)] += recorded.get(item.nodeid, 0.0)
    items.sort(key=lambda item: -seconds[unit_of_work(item.nodeid)])


def record(reports: Iterable[pytest.TestReport]) -> None:
    """Write how long each test took, set-up and tear-down included; those that did not run keep theirs."""
    taken: dict[str, float] = defaultdict(float)
    for report in reports:
        taken[report.nodeid] += report.duration
    recorded: dict[str, float] = json.loads(DURATIONS.read_text()) | taken
    longer = {
        nodeid: round(seconds, 1) for nodeid, seconds in recorded.items() if seconds > _RECORDED_SECONDS
    }
    DURATIONS.write_text(json.dumps(dict(sorted(longer.items())), indent=1) + "\n")
