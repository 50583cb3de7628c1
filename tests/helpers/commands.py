"""Runs a command line in the test's own process, for what it prints and its exit code."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest


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
    with monkeypatch.context() as patched, _own_logging():
        patched.setattr("sys.argv", ["command", *arguments])
        patched.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = main()
    return Ended(int(code), *capsys.readouterr())


@contextmanager
def _own_logging() -> Iterator[None]:
    """Keep what a command does to the process's logging from what comes after it."""
    handlers, level = logging.root.handlers[:], logging.root.level
    levels = {
        name: logger.level
        for name, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger)
    }
    # A command replaces them; `basicConfig` would close those that are pytest's.
    logging.root.handlers.clear()
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        for name in ("botocore", "lakefeed_analytics"):
            logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))
