"""The messages in docs/troubleshooting.md are those of the programs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# What Docker says.
FOREIGN = {"port is already allocated", "container …-kafka-1 is unhealthy"}
# Names and values alone are in many places.
SHORTEST = 12


def symptoms() -> Iterator[str]:
    for line in (ROOT / "docs" / "troubleshooting.md").read_text().splitlines():
        if line.startswith("| "):
            yield from re.findall(r"`([^`]+)`", line.split("|")[1])


def texts() -> Iterator[str]:
    """All texts of the services; values in them are `…`."""
    for part in ("common", "producer", "consumer", "analytics", "local"):
        for path in (ROOT / part).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    yield "".join(
                        str(each.value) if isinstance(each, ast.Constant) else "…" for each in node.values
                    )
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield re.sub(r"%[sdg]|{\w+}", "…", node.value)


MESSAGES = [each for each in symptoms() if each not in FOREIGN and len(each) >= SHORTEST and " " in each]


def test_there_are_messages() -> None:
    assert len(MESSAGES) > 10


@pytest.fixture(scope="module")
def known() -> str:
    return "\n".join(texts())


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_in_the_documentation_is_one_of_a_program(message: str, known: str) -> None:
    pieces = [re.escape(piece) for piece in message.strip("… ").split("…")]
    assert re.search("[^\n]*".join(pieces), known), f"no program says `{message}`"
