"""What holds for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from _pytest.terminal import TerminalReporter
from hypothesis import HealthCheck, settings
from xdist.remote import Producer

from tests.helpers import order
from tests.helpers.boto import share_loader

# A busy machine is slow; that alone is no failure.
settings.register_profile("lakefeed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lakefeed")
share_loader()
os.environ.setdefault("LAKEFEED_LOCAL_START_SECONDS", "150")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-durations", action="store_true", help="write tests/durations.json")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith("tests/integration/"):
            item.add_marker("integration")


@pytest.hookimpl(wrapper=True, tryfirst=True, specname="pytest_collection_modifyitems")
def pytest_sort_items(items: list[pytest.Item]) -> Iterator[None]:
    """Sort after every other plugin, such as the one that shuffles."""
    yield
    order.sort(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> order.LongestFirst | None:
    """Without `--dist loadscope` xdist's own way stands."""
    return order.LongestFirst(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("record_durations"):
        order.record(
            r
            for reports in terminalreporter.stats.values()
            for r in reports
            if isinstance(r, pytest.TestReport)
        )
