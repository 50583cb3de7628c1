"""Topics of a measurement: created, filled, and deleted."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.pace import TICK_SECONDS, Pace
from tests.helpers.waiting import wait_for

EVENT_BYTES = 200
_DELIVERY_SECONDS = 120.0
_GROUP_SECONDS = 90.0


@cache
def events(count: int) -> list[bytes]:
    """JSON objects of `EVENT_BYTES` each."""
    head = '{"id":1%09d,"ticker":"AAPL","price":1%08.3f,"day":"2013-03-01","note":"'
    made = []
    for number in range(count):
        begin = (head % (number, number % 10_000 / 7)).encode()
        made.append(begin + b"x" * (EVENT_BYTES - len(begin) - 2) + b'"}')
    return made


@contextmanager
def topic(broker: str, name: str, partitions: int, config: dict[str, str] | None = None) -> Iterator[str]:
    """A new topic, deleted at the end; yields its name, which starts with `name`."""
    unique = f"{name}-{uuid.uuid4().hex[:8]}"
    admin = _admin(broker)
    admin.create_topics([NewTopic(unique, partitions, 1, config=config or {})])[unique].result(30)
    try:
        yield unique
    finally:
        admin.delete_topics([unique])[unique].result(30)


def fill(broker: str, topic: str, partitions: int, values: Iterable[bytes]) -> None:
    """Append values round-robin to the partitions, with the producer's default compression."""
    producer = Producer(
        {
            "bootstrap.servers": broker,
            "compression.type": "lz4",
            "linger.ms": 20,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    for number, value in enumerate(values):
        producer.produce(topic, value, partition=number % partitions)
    assert producer.flush(_DELIVERY_SECONDS) == 0, f"{topic}: not everything was delivered"


def fill_at(broker: str, topic: str, values: Sequence[bytes], rate: float, linger_ms: int = 5) -> None:
    """Append values to partition 0 at a rate per second, with one request every 5 ms, the default of clients.

    With one request per event, the broker would be the bottleneck instead of the consumer.
    """
    producer = Producer({"bootstrap.servers": broker, "linger.ms": linger_ms})
    pace = Pace(rate, len(values))
    while not pace.over:
        for number in pace.due():
            producer.produce(topic, values[number], partition=0)
        producer.poll(0)
        time.sleep(TICK_SECONDS)
    assert producer.flush(30) == 0


def wait_for_group(broker: str, group: str, topic: str, partitions: int, members: int) -> None:
    """Wait until a group has this many members, and all partitions are assigned, at least one to each."""
    admin = _admin(broker)

    def settled() -> bool:
        try:
            described = admin.describe_consumer_groups([group], request_timeout=10)[group].result()
        except KafkaException:  # a broker that has just started creates its offsets topic first
            return False
        shares = [
            sum(one.topic == topic for one in member.assignment.topic_partitions)
            for member in described.members
            if member.assignment is not None
        ]
        return (
            described.state == ConsumerGroupState.STABLE
            and len(shares) == members
            and sum(shares) == partitions
            and all(shares)
        )

    wait_for(settled, _GROUP_SECONDS, f"the group {group} did not settle", every=0.2)


def held(broker: str, topic: str) -> int:
    """The number of records in a topic, from its offsets, if nothing was deleted."""
    with closing(_reader(broker)) as reader:
        partitions = reader.list_topics(topic, timeout=30).topics[topic].partitions
        ends = [reader.get_watermark_offsets(TopicPartition(topic, number))[1] for number in partitions]
    return sum(ends)


def append_times(broker: str, topic: str, count: int) -> dict[int, int]:
    """When the broker appended the records of partition 0: milliseconds since 1970, by offset.

    The topic must have `message.timestamp.type=LogAppendTime`.
    """
    times: dict[int, int] = {}
    with closing(_reader(broker)) as reader:
        reader.assign([TopicPartition(topic, 0, 0)])
        while len(times) < count:
            # It waits for the requested number.
            messages = reader.consume(min(10_000, count - len(times)), timeout=30)
            assert messages, f"{topic}: {len(times)} of {count} records could be read"
            for message in messages:
                offset = message.offset()
                assert offset is not None, message.error()
                times[offset] = message.timestamp()[1]
    return times


def _reader(broker: str) -> Consumer:
    return Consumer({"bootstrap.servers": broker, "group.id": "bench-reader", "log_level": 0})


def _admin(broker: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker, "log_level": 0})
