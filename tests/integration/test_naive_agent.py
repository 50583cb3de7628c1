"""Why the consumer acknowledges by itself: the same kills, with Faust's own acknowledgement, lose events."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from tests.chaos.kafka import Topic
from tests.chaos.run import CONSUMERS, read_bucket
from tests.chaos.verify import RowId, verify
from tests.chaos.workers import Program, quiet_environment
from tests.helpers.s3_proxy import Faults, S3Proxy
from tests.helpers.seaweed import SeaweedS3
from tests.helpers.waiting import wait_for

IN_FLIGHT = 32


class Killed:
    """One consumer that is killed while puts are in flight, each time at the same point."""

    def __init__(self, consumer: str, settings: dict[str, str], proxy: S3Proxy, folder: Path) -> None:
        name = settings["LAKEFEED_TOPIC"]
        servers, group = (
            settings["LAKEFEED_KAFKA_BOOTSTRAP_SERVERS"],
            settings["LAKEFEED_CONSUMER_GROUP"],
        )
        self.topic = Topic(servers, name, group, partitions=2)
        self.topic.create()
        self.proxy = proxy
        self.events: dict[RowId, dict[str, int]] = {}
        environment = quiet_environment() | settings | {"LAKEFEED_PUTS_IN_FLIGHT": str(IN_FLIGHT)}
        self.log = folder / "log"
        self.program = Program(
            CONSUMERS[consumer], environment | {"LAKEFEED_HTTP_PORT": "0"}, self.log, cwd=folder
        )

    def send(self, count: int) -> None:
        for _ in range(count):
            row = ("naive.csv", len(self.events) + 1)
            self.events[row] = {"n": row[1]}
            self.topic.send(row, orjson.dumps(self.events[row]))
        wait_for(self.topic.flush, 30, "the events are in the topic")

    def wait_committed(self) -> None:
        wait_for(
            lambda: self.topic.progress() == (len(self.events),) * 2,
            60,
            lambda: f"{self.topic.progress()}\n{self.log.read_text()}",
            every=0.2,
        )

    def kill(self) -> None:
        """All is stored; then more comes, no put is answered, and the consumer dies."""
        self.send(60)
        self.wait_committed()
        safe, unanswered = len(self.events), self.proxy.counts()["silence"]
        self.proxy.set(Faults({"silence": 1.0}, method="PUT"))
        self.send(60)
        wait_for(lambda: self.proxy.counts()["silence"] >= unanswered + IN_FLIGHT, 30, "puts are in flight")
        # What is committed now has no objects. An agent that commits nothing is killed as well.
        with suppress(AssertionError):
            wait_for(lambda: sum(self.topic.committed().values()) > safe, 3)
        self.program.kill(0)
        wait_for(lambda: not self.program.alive, 10, "killed")
        self.proxy.set(Faults())
        self.program.tend()

    def run(self) -> None:
        self.program.tend()
        try:
            self.kill()
            self.wait_committed()
        finally:
            self.program.end()


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_kills_lose_events_of_a_naive_agent_and_none_of_the_consumer(
    consumer: str, proxied: dict[str, str], proxy: S3Proxy, seaweed: SeaweedS3, tmp_path: Path
) -> None:
    killed = Killed(consumer, proxied, proxy, tmp_path)
    killed.run()
    verdict = verify(
        killed.topic.name,
        events=killed.events,
        broken={},
        records=killed.topic.read(),
        bucket=asyncio.run(read_bucket(seaweed, killed.topic.name)),
    )
    if consumer == "naive":
        # All of them are committed, so no consumer will ever store them.
        assert verdict.wrong["lost"] > 0
    else:
        assert verdict.good, verdict.examples
    assert verdict.stored + verdict.wrong["lost"] == len(killed.events)
