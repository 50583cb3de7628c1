"""Results as a table, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from lakefeed_analytics.athena import Value
from lakefeed_analytics.output import Format, show
from lakefeed_common.text import visible

COLUMNS = ["ticker", "n", "n", "ok"]
ROWS: list[list[Value]] = [["A,B", 1, 0.5, True], ['say "x"', None, 2.0, False], ["", 3, None, None]]


def test_csv_tells_null_from_empty(capsys: pytest.CaptureFixture[str]) -> None:
    show(COLUMNS, ROWS, Format.CSV)
    out = capsys.readouterr().out
    assert out.splitlines() == ["ticker,n,n,ok", '"A,B",1,0.5,true', '"say ""x""",,2.0,false', '"",3,,']
    assert list(csv.reader(io.StringIO(out)))[1] == ["A,B", "1", "0.5", "true"]


def test_json_keeps_types_and_columns_of_one_name(capsys: pytest.CaptureFixture[str]) -> None:
    show(COLUMNS, ROWS, Format.JSON)
    found = json.loads(capsys.readouterr().out)
    assert found[0] == {"ticker": "A,B", "n": 1, "n_2": 0.5, "ok": True}
    assert found[1]["n"] is None


def test_a_table_has_all_cells(capsys: pytest.CaptureFixture[str]) -> None:
    show(COLUMNS, [*ROWS, ["[bold]not markup[/bold]", 4, 4, True]], Format.TABLE)
    out = capsys.readouterr().out
    assert "A,B" in out
    assert "[bold]not markup[/bold]" in out


@pytest.mark.parametrize("form", list(Format))
def test_no_rows(capsys: pytest.CaptureFixture[str], form: Format) -> None:
    show(["a"], [], form)
    out = capsys.readouterr().out
    assert json.loads(out) == [] if form is Format.JSON else "a" in out


VALUES: list[Value] = [
    "00:ab:12:34",
    ":smile:",
    "[red]x[/red]",
    " a ",
    "a\nb",
    "a\tb\r\x1b[2J\x00",
    "\x9b2J\u2028",
    "x" * 12_000,
    "007",
    "1.50",
]


def test_no_format_changes_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    show([":bug:"], [[value] for value in VALUES], Format.JSON)
    assert [row[":bug:"] for row in json.loads(capsys.readouterr().out)] == VALUES
    show([":bug:"], [[value] for value in VALUES], Format.CSV)
    assert [row[0] for row in csv.reader(io.StringIO(capsys.readouterr().out, newline=""))][1:] == VALUES
    show([":bug:"], [[value] for value in VALUES], Format.TABLE)
    head, *shown = [
        re.split("[┃│]", line)[1][1:-1]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith(("┃", "│"))
    ]
    assert head.rstrip() == ":bug:"
    assert [line.rstrip() for line in shown] == [visible(str(value)).rstrip() for value in VALUES]
