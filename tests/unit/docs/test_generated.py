from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from docs.configuration import document, row
from docs.generate import files
from docs.markdown import table
from lakefeed_common.settings import Settings, setting
from monitoring.catalogue import ROOT
from monitoring.generated import stale, write_or_check


class Example(Settings):
    """Settings of each kind."""

    plain: str = setting("a|b", "A text.", pattern="^a|b$")
    port: int = setting(1, "A port.", ge=1, le=65535)
    wait: float | None = setting(None, "A wait.", unit="s", gt=0)
    level: Literal["LOW", "HIGH"] = setting("LOW", "A level.")
    switch: bool = setting(False, "A switch.")
    inside: Path = setting(ROOT / "data" / "x.csv", "A file.")
    home: Path = setting(Path.home() / "x", "A folder.")
    region: str = setting("", "A region.", variable="AWS_REGION")


def test_the_committed_documents_are_what_the_classes_say() -> None:
    assert [path.name for path in stale(files())] == [], "run `make docs`"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", ("`LAKEFEED_PLAIN`", "text that matches `^a|b$`", "`a|b`", "", "A text.")),
        ("port", ("`LAKEFEED_PORT`", "whole number from 1 up to 65535", "`1`", "", "A port.")),
        ("wait", ("`LAKEFEED_WAIT`", "number above 0", "unset", "s", "A wait.")),
        ("level", ("`LAKEFEED_LEVEL`", "`LOW`, `HIGH`", "`LOW`", "", "A level.")),
        ("switch", ("`LAKEFEED_SWITCH`", "`true` or `false`", "`false`", "", "A switch.")),
        ("inside", ("`LAKEFEED_INSIDE`", "path", "`data/x.csv`", "", "A file.")),
        ("home", ("`LAKEFEED_HOME`", "path", "`~/x`", "", "A folder.")),
        ("region", ("`AWS_REGION`", "text", "empty", "", "A region.")),
    ],
)
def test_a_setting_is_a_row(name: str, expected: tuple[str, ...]) -> None:
    assert row(name, Example.model_fields[name]) == expected


def test_every_setting_is_documented_with_all_columns() -> None:
    lines = [line for line in document().splitlines() if line.startswith("| `")]
    assert len(lines) > 50
    for line in lines:
        cells = line.replace(r"\|", "").strip("| ").split(" | ")
        assert len(cells) == 5
        assert cells[-1].endswith("."), line


def test_documents_do_not_depend_on_the_machine() -> None:
    for text in files().values():
        assert str(ROOT) not in text
        assert str(Path.home()) not in text


def test_a_pipe_does_not_end_a_cell() -> None:
    assert table(["a"], [["x|y"]]) == "| a |\n| --- |\n| x\\|y |\n"


def test_what_is_stale_is_named_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = {tmp_path / "a.md": "new\n", tmp_path / "b" / "c.md": "é\n"}
    (tmp_path / "a.md").write_text("old\n")
    assert write_or_check(wanted, ["--check"]) == 1
    assert (tmp_path / "a.md").read_text() == "old\n"
    assert "run `make docs`" in capsys.readouterr().err
    assert write_or_check(wanted, []) == 0
    assert write_or_check(wanted, ["--check"]) == 0
    assert write_or_check(wanted, ["--unknown"]) == 2
