"""What tests of the consumer share: topics, events, and what has become of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from lakefeed_consumer.object_store import NO_METADATA, ObjectStore, StoreRefusedError
from lakefeed_consumer.s3.obstore import ObstoreObjectStore
from tests.helpers.services import Service
from tests.helpers.waiting import wait_for

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Position = tuple[int, int]


class ReadsOnly(ObstoreObjectStore):
    """obstore's client, refusing the puts that the fast one is not sure of."""

    async def create(self, key: str, body: bytes, metadata: Mapping[str, str] = NO_METADATA) -> None:
        raise StoreRefusedError("left to obstore")


def run(store: ObjectStore, scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a test's calls of a store in an event loop, and close its connections there."""

    async def whole() -> None:
        try:
            await scenario()
        finally:
            await store.close()

    asyncio.run(whole())


def changed(change: str) -> str:
    """A program that runs the consumer's own command after a change to it."""
    return f"""
import asyncio, sys, threading, time
from unittest.mock import AsyncMock
from lakefeed_consumer import cli, feeder, service
from lakefeed_consumer.faust_driver import consumer_thread, group_consumer, member
{change}
sys.argv = ["lakefeed-consumer", "run"]
sys.exit(cli.main())
"""


def with_slow_puts(seconds: float) -> str:
    """The consumer's own command, each put of which takes so much longer."""
    return changed(f"""
from lakefeed_consumer.s3.fast.store import FastObjectStore
create = FastObjectStore.create
async def slowly(self, *put):
    await asyncio.sleep({seconds})
    await create(self, *put)
FastObjectStore.create = slowly
""")


def make_topic(kafka: str, topic: str, partitions: int = 1, config: dict[str, str] | None = None) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, partitions, 1, config=config or {})])[topic].result(30)


def publish(
    kafka: str, topic: str, values: Sequence[bytes | None], compression: str = "none"
) -> dict[Position, bytes | None]:
    """Produce values; returns what the log holds of them, by partition and offset."""
    held: dict[Position, bytes | None] = {}

    def delivered(error: object, message: object) -> None:
        assert error is None
        held[message.partition(), message.offset()] = message.value()  # type: ignore[attr-defined]

    producer = Producer(
        {
            "bootstrap.servers": kafka,
            "enable.idempotence": True,
            "linger.ms": 5,
            "compression.type": compression,
        }
    )
    for number, value in enumerate(values):
        producer.produce(topic, value, key=str(number).encode(), on_delivery=delivered)
    assert producer.flush(30) == 0
    return held


def events(count: int, start: int = 0) -> list[bytes | None]:
    return [orjson.dumps({"n": n, "text": "é" * (n % 7)}) for n in range(start, start + count)]


def objects(s3: S3Client, bucket: str, prefix: str) -> dict[str, bytes]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def by_position(stored: dict[str, bytes]) -> dict[Position, bytes | None]:
    positions: dict[Position, bytes | None] = {}
    for key, body in stored.items():
        partition, offset = key.rsplit("/", 1)[1].removesuffix(".json").split("-")
        positions[int(partition), int(offset)] = body
    return positions


def committed(kafka: str, topic: str, group: str, partitions: int) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": group})
    found = consumer.committed([TopicPartition(topic, number) for number in range(partitions)], timeout=20)
    consumer.close()
    return {entry.partition: entry.offset for entry in found}


def ends(held: dict[Position, bytes | None]) -> dict[int, int]:
    positions: dict[int, int] = {}
    for partition, offset in held:
        positions[partition] = max(positions.get(partition, 0), offset + 1)
    return positions


def safe(service: Service) -> float:
    return service.metric("lakefeed_consumer_objects_total")


def wait_stored(service: Service, count: int, timeout: float = 60) -> None:
    wait_for(lambda: safe(service) >= count, timeout, lambda: f"{safe(service)} of {count}\n{service.log}")


def wait_unready(service: Service, dependency: str, reason: str) -> None:
    wait_for(lambda: reason in service.unready_reasons().get(dependency, ""), 60, lambda: service.log)
