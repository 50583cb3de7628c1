"""`/healthz` of `lakefeed-producer watch`: a stuck work loop is detected, a slow one is not."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from lakefeed_local.broker import Broker
from tests.helpers.brokers import kafka_pid
from tests.helpers.publishing import Topic
from tests.helpers.services import Service
from tests.helpers.waiting import wait_for
from tests.helpers.watching import numbers, write

# The command, with a function replaced by one that blocks forever at the tenth call.
STUCK = """
import itertools, sys, threading
from lakefeed_producer import cli
from lakefeed_producer.kafka import publisher
from lakefeed_producer.csv import file
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


@pytest.mark.parametrize("where", ["publisher.KafkaPublisher.wait", "file.os.fstat"], ids=["Kafka", "disk"])
def test_a_stuck_call_is_detected(
    kafka: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """With the default: tests/unit/producer/test_watch.py."""
    monkeypatch.chdir(tmp_path)
    for number in range(12):
        write(tmp_path, f"{number}.csv", 100 + number)
    program = STUCK.format(where=where)
    # Long enough for one round on a busy machine.
    short = settings(kafka, topic, LAKEFEED_STALL_SECONDS="2")
    with Service("producer", log=tmp_path / "log", program=program, **short) as service:
        wait_for(lambda: "stuck" in service.log.splitlines(), 60, lambda: service.log)
        wait_for(lambda: service.get("/healthz")[0] == 503, 30, lambda: service.log)
        assert b"watch" in service.get("/healthz")[1]


def test_a_broker_that_does_not_respond_is_not_ready_but_alive(
    own_kafka: Broker, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = 6_000
    write(tmp_path, "a.csv", rows)
    kafka = own_kafka.bootstrap_servers
    there = Topic(kafka, topic)
    slow = settings(kafka, topic, LAKEFEED_RATE="500", LAKEFEED_STALL_SECONDS="8")
    with Service("producer", "watch", "in", log=tmp_path / "log", **slow) as service:
        wait_for(lambda: there.size() > 200, 60, lambda: service.log)
        pid = kafka_pid(own_kafka)
        os.kill(pid, signal.SIGSTOP)
        try:
            stopped = time.monotonic()

            def unready_for_long() -> bool:
                assert service.get("/healthz")[0] == 200, service.log
                return service.get("/readyz")[0] == 503 and time.monotonic() - stopped > 20

            wait_for(unready_for_long, 60, lambda: service.log, every=0.5)
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_for(lambda: f"a.csv: done, {rows} events delivered" in service.log, 90, lambda: service.log)
        wait_for(lambda: service.get("/readyz")[0] == 200, 30, lambda: service.log)
    assert numbers(kafka, topic) == list(range(1, rows + 1))
    there.close()
