"""Each kind of broken CSV with the command itself; docs/reliability.md lists the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from docs.markdown import table
from lakefeed_producer.csv.rejects import Reason
from tests.helpers.broken_csv import BROKEN, Broken
from tests.helpers.publishing import command

RELIABILITY = Path(__file__).parents[3] / "docs" / "reliability.md"


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.kind)
def test_a_broken_file_ends_as_the_table_says(broken: Broken, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"b": "integer"}')
    if broken.content is not None:
        (tmp_path / "x.csv").write_bytes(broken.content)
    done = command(tmp_path, "publish", "x.csv", "--dry-run", *broken.options)
    assert done.returncode == broken.code
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [next(iter(event.values())) for event in events] == list(broken.events)
    rejects = tmp_path / "x.csv.rejects.jsonl"
    if isinstance(broken.outcome, Reason):
        assert [json.loads(line)["reason"] for line in rejects.read_text().splitlines()] == [broken.outcome]
        return
    assert not rejects.exists()
    if broken.code:
        assert done.stderr.startswith("error: ")
        assert broken.outcome in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_the_document_lists_the_same_kinds() -> None:
    rows = [(broken.kind, shown(broken), str(broken.code)) for broken in BROKEN]
    assert len([broken for broken in BROKEN if broken.code]) >= 30
    expected = table(("kind", "outcome", "exit code"), rows)
    assert expected in RELIABILITY.read_text(), f"put this into the section Broken CSV:\n{expected}"


def test_each_reason_has_a_case() -> None:
    assert {broken.outcome for broken in BROKEN if isinstance(broken.outcome, Reason)} == set(Reason)


def shown(broken: Broken) -> str:
    if isinstance(broken.outcome, Reason):
        return f"rejected: `{broken.outcome}`"
    return f"error: … {broken.outcome} …" if broken.code else "published"
