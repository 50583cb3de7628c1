"""docs/reliability.md names tests; each of them must be there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NAMED = sorted(
    set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs/reliability.md").read_text()))
)


def test_tests_are_named() -> None:
    assert len(NAMED) > 50


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_named_test_is_there(file: str, test: str) -> None:
    text = (ROOT / file).read_text()
    assert not test or re.search(rf"^(?:    )?(?:async )?def {test}\(", text, re.MULTILINE), f"{file}::{test}"
