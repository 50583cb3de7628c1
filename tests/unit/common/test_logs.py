from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from lakefeed_common.logs import Repeats, configure
from lakefeed_common.settings import LogSettings


def record(name: str, message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "", 0, message, args, None)


def test_a_library_says_the_same_once_in_a_while_and_we_say_all() -> None:
    now = 0.0
    repeats = Repeats(quiet_seconds=60, clock=lambda: now)
    assert repeats.filter(record("aiokafka", "node %s is unreachable", 1))
    assert not repeats.filter(record("aiokafka", "node %s is unreachable", 2))
    assert repeats.filter(record("aiokafka", "node %s is back", 1))
    assert repeats.filter(record("aiokafka.conn", "node %s is unreachable", 1))
    assert all(repeats.filter(record("lakefeed_consumer.feeder", "stored")) for _ in range(3))
    now = 61.0
    assert repeats.filter(record("aiokafka", "node %s is unreachable", 3))


def test_a_library_without_templates_does_not_fill_the_memory() -> None:
    repeats = Repeats()
    for number in range(5_000):
        assert repeats.filter(record("library", f"message {number}"))
    assert len(repeats._logged) <= 1_001


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def logging_kept() -> Iterator[None]:
    root, botocore = logging.getLogger(), logging.getLogger("botocore")
    handlers, level, botocore_level = root.handlers[:], root.level, botocore.level
    yield
    root.handlers[:], root.level, botocore.level = handlers, level, botocore_level


@pytest.mark.usefixtures("logging_kept")
@pytest.mark.parametrize(
    ("log_format", "stream", "json"),
    [
        ("auto", Terminal, False),
        ("auto", io.StringIO, True),
        ("text", io.StringIO, False),
        ("json", Terminal, True),
    ],
)
def test_auto_is_text_on_a_terminal_and_json_otherwise(
    monkeypatch: pytest.MonkeyPatch, log_format: str, stream: type[io.StringIO], json: bool
) -> None:
    errors = stream()
    monkeypatch.setattr("sys.stderr", errors)
    configure(LogSettings(log_format=log_format))
    logging.getLogger("x").info("Stored")
    assert errors.getvalue().startswith("{") is json
