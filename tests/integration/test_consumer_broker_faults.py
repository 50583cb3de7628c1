"""A broker killed, unreachable, without ZooKeeper or disk: the consumer waits, logs it once, and resumes."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from lakefeed_local.broker import Broker
from tests.helpers.brokers import kafka_pid
from tests.helpers.consuming import (
    Position,
    by_position,
    changed,
    committed,
    ends,
    events,
    make_topic,
    objects,
    publish,
    wait_unready,
    with_slow_puts,
)
from tests.helpers.services import Service, repeated_reasons
from tests.helpers.waiting import wait_for

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def settings(own_kafka: Broker, consumer_settings: dict[str, str]) -> dict[str, str]:
    return {
        **consumer_settings,
        "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": own_kafka.bootstrap_servers,
        "LAKEFEED_KAFKA_TIMEOUT_SECONDS": "5",
        "LAKEFEED_DRAIN_SECONDS": "5",
    }


def wait_committed(consumer: Service, kafka: str, topic: str, held: dict[Position, bytes | None]) -> None:
    group = f"group-{topic}"
    wait_for(lambda: committed(kafka, topic, group, 1) == ends(held), 120, lambda: consumer.log, every=0.2)


def test_the_consumer_survives_every_restart_of_its_broker(
    own_kafka: Broker, topic: str, bucket: str, s3: S3Client, settings: dict[str, str], tmp_path: Path
) -> None:
    kafka = own_kafka.bootstrap_servers
    make_topic(kafka, topic)
    held = publish(kafka, topic, events(20))
    with (
        Service("consumer", "run", log=tmp_path / "log", **settings) as consumer,
        Service("consumer", "run", log=tmp_path / "other", **settings) as other,
    ):
        both = (consumer, other)
        # The other one, or this one, has no partition: it reports the broker as well.
        wait_for(
            lambda: (
                sorted(each.metric("lakefeed_consumer_assigned_partitions") for each in both) == [0, 1]
                and all(each.metric("lakefeed_consumer_rebalances_total") for each in both)
            ),
            60,
            lambda: consumer.log + other.log,
        )
        wait_committed(consumer, kafka, topic, held)
        for each in both:
            each.wait_ready()
        own_kafka.kill_kafka()
        for each in both:
            wait_unready(each, "kafka", kafka)
            assert each.get("/healthz")[0] == 200
        assert other.stop() == 0
        lines = len(consumer.log.splitlines())
        own_kafka.restart_zookeeper()
        own_kafka.start_kafka()
        held |= publish(kafka, topic, events(20, start=20))
        wait_committed(consumer, kafka, topic, held)
        own_kafka.restart_zookeeper()
        held |= publish(kafka, topic, events(20, start=40))
        wait_committed(consumer, kafka, topic, held)
        # An orderly stop, in which it closes its connections.
        own_kafka.restart_kafka()
        held |= publish(kafka, topic, events(20, start=60))
        wait_committed(consumer, kafka, topic, held)
        consumer.wait_ready()
        assert len(consumer.log.splitlines()) - lines < 20, consumer.log
        assert repeated_reasons(consumer.log) == []
        assert consumer.stop() == 0
    assert by_position(objects(s3, bucket, "events/")) == held


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """What is started meanwhile cannot make a file longer than this: to a broker its disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_consumer_resumes_after_the_brokers_disk_was_full(
    own_kafka: Broker, topic: str, bucket: str, s3: S3Client, settings: dict[str, str], tmp_path: Path
) -> None:
    kafka = own_kafka.bootstrap_servers
    make_topic(kafka, topic)
    held = publish(kafka, topic, events(20))
    own_kafka.stop_kafka()
    # Enough for an index, which has 10 MB from its start.
    with files_of_at_most(11_000_000):
        own_kafka.start_kafka()
    with Service("consumer", "run", log=tmp_path / "log", **settings) as consumer:
        wait_committed(consumer, kafka, topic, held)
        delivered: dict[Position, bytes | None] = {}

        def report(error: object, message: Any) -> None:
            if error is None:
                delivered[message.partition(), message.offset()] = message.value()

        producer = Producer({"bootstrap.servers": kafka, "message.timeout.ms": 10_000, "log_level": 0})
        for number in range(15):
            producer.produce(topic, b'{"n": %d, "pad": "%s"}' % (number, b"x" * 900_000), on_delivery=report)
            producer.flush(20)
        assert 5 < len(delivered) < 15
        # The broker exits when the last of its disks fails.
        wait_for(lambda: not own_kafka.running, 60, "the broker has exited")
        wait_unready(consumer, "kafka", kafka)
        assert consumer.get("/healthz")[0] == 200
        own_kafka.start_kafka()
        held |= delivered | publish(kafka, topic, events(20, start=20))
        wait_committed(consumer, kafka, topic, held)
        consumer.wait_ready()
    stored = by_position(objects(s3, bucket, "events/"))
    assert held.items() <= stored.items()
    assert len(stored) <= len(held) + 1, "at most the event whose answer did not come"


HANGS = {
    "the event loop": """
async def consume(self, stream):
    async for event in stream.noack().events():
        time.sleep(3600)
member.FaustMember._consume = consume
""",
    "the fetcher": """
async def drain(self, fetcher):
    await asyncio.sleep(3600)
group_consumer.GroupConsumer._drain_messages = drain
""",
    "Faust's stream": """
async def consume(self, stream):
    await asyncio.sleep(3600)
member.FaustMember._consume = consume
""",
    "an agent that has ended": """
async def consume(self, stream):
    async for event in stream.noack().events():
        return
member.FaustMember._consume = consume
""",
    "the client's thread": """
init = consumer_thread.ConsumerThread.__init__
def remember(self, *args, **kwargs):
    global thread
    thread = self
    init(self, *args, **kwargs)
consumer_thread.ConsumerThread.__init__ = remember
take = group_consumer.GroupConsumer.take
def and_hang(self, message):
    take(self, message)
    thread.thread_loop.call_soon_threadsafe(time.sleep, 3600)
group_consumer.GroupConsumer.take = and_hang
""",
}
# One of them with what is set by default, all others with less.
STALLS: dict[str, dict[str, str]] = {"Faust's stream": {}}
LESS = {"LAKEFEED_STALL_SECONDS": "3"}


@pytest.mark.parametrize("what", HANGS)
def test_liveness_reports_within_30_seconds_what_hangs(
    kafka: str, topic: str, consumer_settings: dict[str, str], tmp_path: Path, what: str
) -> None:
    make_topic(kafka, topic)
    program = changed(HANGS[what])
    consumer_settings |= STALLS.get(what, LESS)
    with Service("consumer", log=tmp_path / "log", program=program, **consumer_settings) as consumer:
        consumer.wait_ready()
        wait_for(lambda: consumer.get("/healthz")[0] == 200, 30, lambda: consumer.log)
        publish(kafka, topic, events(10))
        # By the clock of tests/unit/consumer/test_feeder.py within 30 s; a busy machine takes longer.
        wait_for(lambda: consumer.get("/healthz")[0] == 503, 90, lambda: consumer.log, every=0.5)


def test_a_suspended_broker_does_not_fail_liveness(
    own_kafka: Broker, topic: str, settings: dict[str, str], tmp_path: Path
) -> None:
    make_topic(own_kafka.bootstrap_servers, topic)
    # What is waited for takes longer than a silence that counts as hung.
    settings |= {"LAKEFEED_STALL_SECONDS": "6", "LAKEFEED_KAFKA_TIMEOUT_SECONDS": "9"}
    with Service("consumer", "run", log=tmp_path / "running", **settings) as running:
        running.wait_ready()
        pid = kafka_pid(own_kafka)
        os.kill(pid, signal.SIGSTOP)
        try:
            with Service("consumer", "run", log=tmp_path / "starting", **settings) as starting:
                health: list[int] = []
                for consumer in (running, starting):
                    wait_for(lambda: consumer.get("/healthz")[0] == 200, 30, "it answers")  # noqa: B023

                def reported_by_both() -> bool:
                    health.extend(each.get("/healthz")[0] for each in (running, starting))
                    # As many polls as take longer than the wait for a response.
                    return len(health) > 48 and all(each.unready_reasons() for each in (running, starting))

                wait_for(reported_by_both, 90, lambda: running.log + starting.log, every=0.5)
                assert set(health) == {200}
        finally:
            os.kill(pid, signal.SIGCONT)
        running.wait_ready()


def test_slow_puts_do_not_fail_liveness(
    kafka: str, topic: str, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    make_topic(kafka, topic)
    consumer_settings |= {"LAKEFEED_STALL_SECONDS": "6", "LAKEFEED_PUTS_IN_FLIGHT": "1"}
    program = with_slow_puts(8)
    publish(kafka, topic, events(2))
    with Service("consumer", log=tmp_path / "log", program=program, **consumer_settings) as consumer:
        wait_for(lambda: "Partitions assigned" in consumer.log, 60, lambda: consumer.log)
        health: list[int] = []

        def stored() -> bool:
            health.append(consumer.get("/healthz")[0])
            return consumer.metric("lakefeed_consumer_objects_total") == 2

        wait_for(stored, 90, lambda: consumer.log, every=0.5)
        assert set(health) == {200}
