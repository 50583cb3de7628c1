"""The wording check: phrases are found in prose and names, and the covered files have none."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs import wording


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("The user is told.", ["is told"]),
        ("Made anew; nobody knows.", ["anew", "nobody"]),
        ("def test_a_reason_is_told_once() -> None:", ["is told"]),
        ("# It is resumed, and goes\n    # on by itself.", ["goes on by itself"]),
        ("35,000 events a second", ["events a second"]),
        ("Records that are no events; it is no event.", ["are no events", "is no event"]),
        ("There are no events of that day; no event is lost.", []),
        ("put a file in the folder a second time", []),
        ("a topic that is no longer read", []),
        ("Retold in goldtold style, Andersen mentions bedside tables.", []),
    ],
)
def test_phrases_are_found_in_prose_comments_and_names(text: str, phrases: list[str]) -> None:
    assert [phrase for _, phrase, _ in wording.found(text)] == phrases


def test_the_line_and_the_replacement_are_reported() -> None:
    assert list(wording.found("ok\n\nIn vain\n")) == [(3, "In vain", "failed")]


def test_problems_are_printed_and_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.md").write_text("Nothing is mended.\n")
    monkeypatch.setattr(wording, "ROOT", tmp_path)
    monkeypatch.setattr(wording, "files", lambda: [tmp_path / "a.md"])
    assert wording.main() == 1
    assert capsys.readouterr().out == "a.md:1: “mended”; write instead: fixes, repairs\n"


def test_the_project_uses_no_avoided_phrase(capsys: pytest.CaptureFixture[str]) -> None:
    assert wording.main() == 0, capsys.readouterr().out
