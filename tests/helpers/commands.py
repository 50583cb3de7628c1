"""Runs a service's command line in this process, as its entry point does."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest


@dataclass(frozen=True)
class Done:
    """What a command left: exit code and output."""

    returncode: int
    stdout: str
    stderr: str


def run_command(main: Callable[[], int], *arguments: str, folder: Path, **variables: str) -> Done:
    """Call an entry point.

    Args:
        main: `lakefeed_<service>.cli.main`.
        arguments: what follows the command's name.
        folder: where it runs.
        variables: its settings; no other LAKEFEED_ variable is set.
    """
    outputs = io.BytesIO(), io.BytesIO()
    # They close what they write to when they are gone.
    stdout, stderr = (io.TextIOWrapper(output, write_through=True) for output in outputs)
    with (
        _environment(folder, ["command", *arguments], variables),
        signals_and_logging_as_before(),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        code = main()
    return Done(code, *(output.getvalue().decode() for output in outputs))


@contextlib.contextmanager
def _environment(folder: Path, command: list[str], variables: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("LAKEFEED_")]:
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setattr("sys.argv", command)
        patch.chdir(folder)
        yield


@contextlib.contextmanager
def signals_and_logging_as_before() -> Iterator[None]:
    """Take back what a command's set-up changes for the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    known = {one: (one.level, one.filters[:]) for one in _loggers()}
    caught = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    # The set-up of logging closes the handlers that it finds.
    root.handlers.clear()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        # Those that the command has made had no level before.
        for one in _loggers():
            before, filters = known.get(one, (logging.NOTSET, []))
            one.setLevel(before)
            one.filters[:] = filters
        for number, handler in caught.items():
            signal.signal(number, handler)


def _loggers() -> list[logging.Logger]:
    return [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def in_process(
    main: Callable[[], int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *arguments: str,
    stdin: str = "",
) -> Ended:
    """Call a command's `main`, as its script does; returns what it printed since the last look."""
    capsys.readouterr()
    with monkeypatch.context() as patched, signals_and_logging_as_before():
        patched.setattr("sys.argv", ["command", *arguments])
        patched.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = main()
    return Ended(int(code), *capsys.readouterr())
