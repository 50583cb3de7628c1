"""`lakefeed-producer watch` as a process against a real broker: restarts, crashes, a broker that leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from lakefeed_local.broker import Broker
from tests.helpers.waiting import wait_for
from tests.helpers.watching import numbers, watching, write

ROWS = 6_000


def test_a_file_is_published_once_over_a_restart_and_metrics_tell(
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


def test_a_stop_in_the_middle_of_a_file_goes_on_at_the_next_row(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    write(tmp_path, "a.csv", ROWS)
    with watching(tmp_path, kafka, topic, "--rate", "500") as watcher:
        wait_for(lambda: len(numbers(kafka, topic)) > 500, 40, lambda: watcher.log)
        assert watcher.end(signal.SIGTERM) == 0
        assert "a.csv: stopped behind row" in watcher.log
    assert 500 < len(numbers(kafka, topic)) < ROWS
    with watching(tmp_path, kafka, topic) as watcher:
        watcher.wait_for_log(f"a.csv: done, {ROWS} events delivered")
    assert numbers(kafka, topic) == list(range(1, ROWS + 1))


def test_a_crash_in_the_middle_of_a_file_repeats_no_row(kafka: str, topic: str, tmp_path: Path) -> None:
    write(tmp_path, "a.csv", ROWS)
    for _ in range(2):
        before = len(numbers(kafka, topic))
        with watching(tmp_path, kafka, topic, "--rate", "500") as watcher:
            arrived = partial(lambda count: len(numbers(kafka, topic)) > count, before + 500)
            wait_for(arrived, 40, lambda: watcher.log)
            watcher.end(signal.SIGKILL)
    with watching(tmp_path, kafka, topic) as watcher:
        watcher.wait_for_log("a.csv: done")
    assert numbers(kafka, topic) == list(range(1, ROWS + 1))


def test_a_broker_that_goes_away_and_comes_back(own_kafka: Broker, topic: str, tmp_path: Path) -> None:
    kafka = own_kafka.bootstrap_servers
    write(tmp_path, "a.csv", 30_000)
    with watching(tmp_path, kafka, topic, "--rate", "3000", LAKEFEED_KAFKA_TIMEOUT_SECONDS="2") as watcher:
        wait_for(lambda: len(numbers(kafka, topic)) > 1_000, 40, lambda: watcher.log)
        own_kafka.stop_kafka()
        wait_for(lambda: watcher.get("/readyz")[0] == 503, 30, lambda: watcher.log)
        assert "kafka" in json.loads(watcher.get("/readyz")[1])["reasons"]
        assert watcher.get("/healthz")[0] == 200
        own_kafka.start_kafka()
        watcher.wait_for_log("a.csv: done, 30000 events delivered", 60)
        wait_for(lambda: watcher.get("/readyz")[0] == 200, 20, lambda: watcher.log)
    arrived = numbers(kafka, topic)
    assert sorted(set(arrived)) == list(range(1, 30_001))
    assert len(arrived) == 30_000, "librdkafka's idempotence repeats nothing"


def test_it_waits_for_a_broker_that_is_not_there_yet(own_kafka: Broker, topic: str, tmp_path: Path) -> None:
    own_kafka.stop_kafka()
    write(tmp_path, "a.csv", 10)
    with watching(
        tmp_path, own_kafka.bootstrap_servers, topic, LAKEFEED_KAFKA_TIMEOUT_SECONDS="1"
    ) as watcher:
        watcher.wait_for_log("kafka cannot be used: no answer from Kafka")
        assert watcher.get("/readyz")[0] == 503
        own_kafka.start_kafka()
        watcher.wait_for_log("a.csv: done, 10 events delivered", 60)


def test_a_second_watcher_on_the_same_state_is_refused(kafka: str, topic: str, tmp_path: Path) -> None:
    with watching(tmp_path, kafka, topic):
        done = subprocess.run(
            [sys.executable, "-m", "lakefeed_producer", "watch", "in", "--state-folder", "state"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 2
    assert "another lakefeed-producer uses this folder" in done.stderr


def test_two_watchers_on_one_folder_publish_each_row_once(kafka: str, topic: str, tmp_path: Path) -> None:
    with (
        watching(tmp_path, kafka, topic, "--rate", "2000") as first,
        watching(tmp_path, kafka, topic, "--rate", "2000", LAKEFEED_STATE_FOLDER="another") as second,
    ):
        for number in range(4):
            write(tmp_path, f"{number}.csv", 3_000 + number)
        wait_for(
            lambda: first.log.count(": done, ") == second.log.count(": done, ") == 4,
            60,
            lambda: first.log + second.log,
        )
        assert "is being published by another lakefeed-producer on this computer" in first.log + second.log
    wanted = [row for number in range(4) for row in range(1, 3_001 + number)]
    assert sorted(numbers(kafka, topic)) == sorted(wanted)
