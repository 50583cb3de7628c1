"""`lakefeed-producer watch` as a process with a real broker: restarts, crashes, outages."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from lakefeed_local.broker import Broker
from tests.helpers.publishing import Topic
from tests.helpers.waiting import wait_for
from tests.helpers.watching import numbers, watching, write


@pytest.fixture
def there(kafka: str, topic: str) -> Iterator[Topic]:
    there = Topic(kafka, topic)
    yield there
    there.close()


def test_a_file_is_published_once_across_a_restart_and_counted(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    with watching(tmp_path, kafka, topic) as watcher:
        write(tmp_path, "a.csv", 100)
        watcher.wait_for_log("a.csv: done, 100 events delivered")
        assert watcher.get("/healthz")[0] == watcher.get("/readyz")[0] == 200
        metrics = watcher.get("/metrics")[1]
        assert "lakefeed_producer_events_delivered_total 100.0" in metrics
        assert 'lakefeed_producer_files_total{outcome="done"} 1.0' in metrics
        assert 'lakefeed_producer_rows_rejected_total{reason="bad_encoding"} 0.0' in metrics
        assert watcher.end(signal.SIGTERM) == 0
    with watching(tmp_path, kafka, topic) as watcher:
        write(tmp_path, "b.csv", 3)
        watcher.wait_for_log("b.csv: done")
    assert numbers(kafka, topic) == [*range(1, 101), 1, 2, 3]


def arrived(there: Topic, more_than: int) -> bool:
    return there.size() > more_than


def test_a_crash_or_a_stop_in_the_middle_of_a_file_repeats_no_row(
    kafka: str, topic: str, tmp_path: Path, there: Topic
) -> None:
    rows = 6_000
    write(tmp_path, "a.csv", rows)
    for number in (signal.SIGKILL, signal.SIGTERM):
        before = there.size()
        with watching(tmp_path, kafka, topic, "--rate", "300") as watcher:
            wait_for(partial(arrived, there, before + 200), 60, lambda: watcher.log)
            code = watcher.end(number)
            assert code == (0 if number is signal.SIGTERM else -signal.SIGKILL)
        assert before + 200 < there.size() < rows
    assert "a.csv: stopped after row" in watcher.log
    with watching(tmp_path, kafka, topic) as watcher:
        watcher.wait_for_log(f"a.csv: done, {rows} events delivered")
    assert numbers(kafka, topic) == list(range(1, rows + 1))


def test_a_broker_that_is_unreachable_for_a_while(own_kafka: Broker, topic: str, tmp_path: Path) -> None:
    """Another watcher starts during the outage."""
    kafka, rows = own_kafka.bootstrap_servers, 3_000
    there = Topic(kafka, topic)
    short_timeout = {"LAKEFEED_KAFKA_TIMEOUT_SECONDS": "2"}
    first, second = tmp_path / "first", tmp_path / "second"
    write(first, "a.csv", rows)
    write(second, "b.csv", 10)
    with watching(first, kafka, topic, "--rate", "100", **short_timeout) as watcher:
        wait_for(lambda: there.size() > 200, 60, lambda: watcher.log)
        own_kafka.stop_kafka()
        wait_for(lambda: watcher.get("/readyz")[0] == 503, 60, lambda: watcher.log)
        assert "kafka" in json.loads(watcher.get("/readyz")[1])["reasons"]
        assert watcher.get("/healthz")[0] == 200
        with watching(second, kafka, f"{topic}-late", **short_timeout) as late:
            late.wait_for_log("no response from Kafka")
            assert late.get("/readyz")[0] == 503
            own_kafka.start_kafka()
            late.wait_for_log("b.csv: done, 10 events delivered", 60)
        watcher.wait_for_log(f"a.csv: done, {rows} events delivered", 60)
        wait_for(lambda: watcher.get("/readyz")[0] == 200, 30, lambda: watcher.log)
    assert numbers(kafka, topic) == list(range(1, rows + 1)), "each once and in order"
    there.close()


def test_two_watchers_on_one_folder_publish_each_row_once(kafka: str, topic: str, tmp_path: Path) -> None:
    with (
        watching(tmp_path, kafka, topic, "--rate", "500") as first,
        watching(tmp_path, kafka, topic, "--rate", "500", LAKEFEED_STATE_FOLDER="another") as second,
    ):
        for number in range(4):
            write(tmp_path, f"{number}.csv", 1_000 + number)
        wait_for(
            lambda: first.log.count(": done, ") == second.log.count(": done, ") == 4,
            60,
            lambda: first.log + second.log,
        )
        assert "is being published by another lakefeed-producer on this computer" in first.log + second.log
    wanted = [row for number in range(4) for row in range(1, 1_001 + number)]
    assert sorted(numbers(kafka, topic)) == sorted(wanted)
