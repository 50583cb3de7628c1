from __future__ import annotations

import logging

from lakefeed_common.logs import Repeats


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
