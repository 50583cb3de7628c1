"""The consumer's command line, in the process."""

from __future__ import annotations

import pytest

from lakefeed_consumer import cli


def test_a_wrong_setting_ends_with_2_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAKEFEED_PUTS_IN_FLIGHT", "many")
    monkeypatch.setattr("sys.argv", ["lakefeed-consumer", "run"])
    assert cli.main() == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: LAKEFEED_PUTS_IN_FLIGHT='many'")
    assert printed.err.count("\n") == 1
