"""`/healthz` of `lakefeed-producer watch`: a stuck work loop is seen, a slow one is left alone."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from lakefeed_local.broker import Broker
from tests.helpers.brokers import kafka_pid
from tests.helpers.services import Service
from tests.helpers.waiting import wait_for
from tests.helpers.watching import numbers, write

# The command, with one of its calls replaced by one that does not return any more after the tenth time.
STUCK = """
import itertools, sys, threading
from lakefeed_producer import cli, delivery, source
calls = itertools.count()
original = {where}
def stuck(*arguments):
    if next(calls) == 10:
        print("stuck", flush=True)
        threading.Event().wait()
    return original(*arguments)
{where} = stuck
sys.argv = ["lakefeed-producer", "watch", "in"]
sys.exit(cli.main())
"""


def settings(kafka: str, topic: str, **more: str) -> dict[str, str]:
    return {
        "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "LAKEFEED_TOPIC": topic,
        "LAKEFEED_WATCH_SETTLE_SECONDS": "0.3",
        **more,
    }


@pytest.mark.parametrize("where", ["delivery.KafkaPublisher.wait", "source.os.fstat"], ids=["Kafka", "disk"])
def test_a_call_that_does_not_return_is_seen_within_30_seconds(
    kafka: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(12):
        write(tmp_path, f"{number}.csv", 1_000 + number)
    program = STUCK.format(where=where)
    with Service("producer", log=tmp_path / "log", program=program, **settings(kafka, topic)) as service:
        wait_for(lambda: "stuck" in service.log.splitlines(), 60, lambda: service.log)
        begin = time.monotonic()
        wait_for(lambda: service.get("/healthz")[0] == 503, 30, lambda: service.log)
        assert time.monotonic() - begin < 30
        assert b"watch" in service.get("/healthz")[1]


def test_a_slow_rate_is_not_stuck(
    kafka: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a.csv", 3)
    slow = settings(kafka, topic, LAKEFEED_RATE="0.1", LAKEFEED_STALL_SECONDS="8")
    with Service("producer", "watch", "in", log=tmp_path / "log", **slow) as service:
        service.wait_ready()

        def two_arrived() -> bool:
            assert service.get("/healthz")[0] == service.get("/readyz")[0] == 200, service.log
            return len(numbers(kafka, topic)) == 2

        wait_for(two_arrived, 60, lambda: service.log)


def test_a_broker_that_does_not_answer_makes_not_ready_and_is_not_stuck(
    own_kafka: Broker, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a.csv", 20_000)
    kafka = own_kafka.bootstrap_servers
    slow = settings(kafka, topic, LAKEFEED_RATE="2000", LAKEFEED_STALL_SECONDS="8")
    with Service("producer", "watch", "in", log=tmp_path / "log", **slow) as service:
        wait_for(lambda: len(numbers(kafka, topic)) > 1_000, 60, lambda: service.log)
        pid = kafka_pid(own_kafka)
        os.kill(pid, signal.SIGSTOP)
        try:
            stopped = time.monotonic()

            def unready_for_long() -> bool:
                assert service.get("/healthz")[0] == 200, service.log
                return service.get("/readyz")[0] == 503 and time.monotonic() - stopped > 20

            wait_for(unready_for_long, 60, lambda: service.log)
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_for(lambda: "a.csv: done, 20000 events delivered" in service.log, 90, lambda: service.log)
        wait_for(lambda: service.get("/readyz")[0] == 200, 30, lambda: service.log)
    assert numbers(kafka, topic) == list(range(1, 20_001))
