"""Ports of tests: none is given twice, whatever else is tested on the machine at the same time."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import services

ROOT = Path(__file__).resolve().parents[3]
# Anywhere, as the same test may run elsewhere on the machine.
_FIRST = random.SystemRandom().randrange(services._PORTS.start, services._PORTS.stop - 60)
FEW = range(_FIRST, _FIRST + 60)
PROGRAM = f"""
from tests.helpers import services
services._PORTS = range({FEW.start}, {FEW.stop})
print(services.free_port(5), flush=True)
input()
"""


@pytest.fixture
def taken() -> Iterator[range]:
    """Ports that another process was given, and has not bound."""
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = int(process.stdout.readline())
        yield range(first, first + 5)
        process.communicate("\n", timeout=60)


def test_a_port_is_given_to_one_process_alone(taken: range, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_PORTS", FEW)
    # One by one most of what the other process has not; another test may have some.
    given = {services.free_port() for _ in range(40)}
    assert len(given) == 40
    assert given.isdisjoint(taken)
    assert given <= set(FEW)
