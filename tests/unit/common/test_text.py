"""What users' data looks like on a terminal: each character is there, and none steers the terminal."""

from __future__ import annotations

import io
import sys

import orjson
import pytest

from lakefeed_common.text import lossless, message, print_table, visible, visible_json


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("00:ab:12:34 :smile: [bold]x[/bold] \\n C:\\new", "00:ab:12:34 :smile: [bold]x[/bold] \\n C:\\new"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x00\x07\x1b[31m\x7f\x9b", "\\u0000\\u0007\\u001b[31m\\u007f\\u009b"),
        ("\u2028\u202e\u2066", "\\u2028\\u202e\\u2066"),
        (b"caf\xe9".decode(errors="surrogateescape"), "caf\\xe9"),
        ("é 番号 👩\u200d🚀", "é 番号 👩\u200d🚀"),
    ],
)
def test_a_value_is_shown_in_one_line(given: str, shown: str) -> None:
    assert visible(given) == shown


def test_a_message_keeps_its_lines() -> None:
    assert message("a\n\x1b]0;title\x07b") == "a\n\\u001b]0;title\\u0007b"


def test_json_stays_the_same_json() -> None:
    document = {"k\x9b": "\x7f\u2028\x1b\n"}
    shown = visible_json(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    assert orjson.loads(shown) == document
    assert shown.isascii()


def test_a_table_has_each_value_whole_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    values = ["x" * 20_000, "  spaces  ", "a\nb", ":bug:", "[red]", "番号", ""]
    print_table(["n", ":bug: [b]"], [[str(number), value] for number, value in enumerate(values)], [True])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 + len(values)
    assert lines[1].split("┃")[2].strip() == ":bug: [b]"
    assert [line.split("│")[2][1:].rstrip() for line in lines[3:-1]] == [
        visible(value).rstrip() for value in values
    ]


def test_columns_stand_under_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "n"], [["番", "1"], ["é", "22"], ["e\u0301", "3"]], [False, True])
    assert capsys.readouterr().out.splitlines() == [
        "┏━━━━━━┳━━━━┓",
        "┃ name ┃  n ┃",
        "┡━━━━━━╇━━━━┩",
        "│ 番   │  1 │",
        "│ é    │ 22 │",
        "│ e\u0301    │  3 │",
        "└──────┴────┘",
    ]


def test_a_terminal_without_unicode_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    print_table(["n"], [["é"]])
    sys.stdout.flush()
    assert raw.getvalue().decode("ascii").splitlines()[1:4] == ["| n    |", "+------+", "| \\xe9 |"]


def test_half_a_character_is_its_escape() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    lossless(stream, encoding="utf-8")
    stream.write("é\ud800")
    stream.flush()
    assert raw.getvalue() == "é\\ud800".encode()
