"""Tests of what all command lines share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakefeed_common.console import command_line, run, stop_on_signals


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Pytest's own handlers afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop(number: signal.Signals) -> None:
    stop = stop_on_signals()
    assert not stop.is_set()
    signal.raise_signal(number)
    assert stop.wait(10)
    signal.raise_signal(number)  # a second one changes nothing


def test_a_signal_that_comes_inside_of_a_wait_is_heard() -> None:
    stop = stop_on_signals()
    with stop._cond:  # type: ignore[attr-defined]  # private; as `wait` holds it for a moment
        signal.raise_signal(signal.SIGTERM)
    assert stop.wait(10)


def test_an_error_of_a_file_is_not_one_of_the_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = command_line("A command.")

    @app.command()
    def open_it() -> None:
        (tmp_path / "missing").stat()

    monkeypatch.setattr("sys.argv", ["command"])
    monkeypatch.setattr("os.dup2", lambda *_: None)
    assert run(app) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'missing'}: No such file or directory\n"
