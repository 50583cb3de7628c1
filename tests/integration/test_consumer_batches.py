"""`LAKEFEED_LAYOUT=batches` with a real broker and S3: each record once through stops, kills, zombies."""

from __future__ import annotations

import gzip
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from lakefeed_common.lake.keys import ObjectKey
from lakefeed_common.lake.lines import from_line
from lakefeed_common.lake.metadata import BatchMetadata
from lakefeed_common.lake.records import Partition, Record
from tests.helpers.consuming import changed, committed, make_topic, objects, safe, wait_stored
from tests.helpers.services import Service
from tests.helpers.waiting import wait_for

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PARTITIONS = 2
# A worker that encodes a batch, and then takes its time to put it.
SLOW = changed("""
from lakefeed_consumer.sink.batches.batch_writer import BatchWriter
from lakefeed_consumer.sink.placing import Placer
create = Placer.create
async def slowly(self, *put):
    await asyncio.sleep(0.3)
    return await create(self, *put)
Placer.create = slowly
""")
# A worker whose seek returns 1.5 s late.
LATE_ANSWER = changed("""
from lakefeed_consumer.faust_driver.client_calls import ClientCalls
seek = ClientCalls.seek
async def and_wait(self, assigned):
    committed = await seek(self, assigned)
    await asyncio.sleep(1.5)
    return committed
ClientCalls.seek = and_wait
""")


def publish_records(kafka: str, topic: str, count: int, start: int = 0) -> None:
    producer = Producer({"bootstrap.servers": kafka, "enable.idempotence": True, "linger.ms": 5})
    for n in range(start, start + count):
        producer.produce(
            topic,
            b'{"n":%d}' % n,
            key=None if n % 3 == 0 else b"\0%d" % n,
            headers=[("source", b"a.csv"), ("none", None)] if n % 2 else None,
            partition=n % PARTITIONS,
        )
    assert producer.flush(30) == 0


def records_of(kafka: str, topic: str) -> set[Record]:
    """What the log holds."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "compare", "auto.offset.reset": "earliest"})
    partitions = [TopicPartition(topic, number, 0) for number in range(PARTITIONS)]
    consumer.assign(partitions)
    left = sum(consumer.get_watermark_offsets(each, timeout=20)[1] for each in partitions)
    found: set[Record] = set()
    while len(found) < left:
        for message in consumer.consume(1000, 5):
            given: Any = message.headers() or ()
            headers = tuple((name, value) for name, value in given)
            where = Partition(topic, message.partition() or 0)
            stamp = message.timestamp()[1]
            found.add(Record(where, message.offset() or 0, stamp, message.key(), message.value(), headers))
    consumer.close()
    return found


def stored_records(s3: S3Client, bucket: str, topic: str) -> list[Record]:
    """The records of all batches; checks that these are links of one chain for each partition."""
    found: list[Record] = []
    ends: dict[int, int] = {}
    for key, body in sorted(
        objects(s3, bucket, "batches/").items(), key=lambda each: each[0].rsplit("/", 1)[1]
    ):
        head = s3.head_object(Bucket=bucket, Key=key)
        assert "ContentEncoding" not in head
        metadata, parsed = BatchMetadata.parse(head["Metadata"]), ObjectKey.parse("batches", key)
        assert parsed is not None
        assert parsed.offset == ends.get(parsed.partition.number, 0)
        ends[parsed.partition.number] = metadata.end
        lines = gzip.decompress(body).splitlines(keepends=True)
        assert len(lines) == metadata.records
        found += [from_line(topic, line) for line in lines]
    return found


def settled(kafka: str, topic: str, group: str, count: int) -> bool:
    return sum(committed(kafka, topic, group, PARTITIONS).values()) == count


@pytest.mark.smoke
def test_batches_hold_each_record_once_through_a_kill_and_a_stop(
    kafka: str, topic: str, bucket: str, s3: S3Client, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    make_topic(kafka, topic, PARTITIONS)
    group = consumer_settings["LAKEFEED_CONSUMER_GROUP"]
    # Nothing is committed before the kill, so that what was stored is read again and adopted.
    batches = {
        "LAKEFEED_LAYOUT": "batches",
        "LAKEFEED_BATCH_MAX_EVENTS": "70",
        "LAKEFEED_BATCH_LINGER_SECONDS": "600",
    }
    publish_records(kafka, topic, 1000)
    late = consumer_settings | batches | {"LAKEFEED_COMMIT_INTERVAL_SECONDS": "600"}
    with Service("consumer", log=tmp_path / "killed", program=SLOW, **late) as killed:
        wait_stored(killed, 100)
        killed.process.kill()
        killed.process.wait()
    assert 100 <= len(stored_records(s3, bucket, topic)) < 1000
    again = consumer_settings | batches | {"LAKEFEED_BATCH_MAX_EVENTS": "90"}
    with Service("consumer", "run", log=tmp_path / "again", **again) as consumer:
        wait_stored(consumer, 900)
        assert consumer.metric("lakefeed_consumer_batches_total", outcome="adopted") >= 1
        # What is left does not fill a batch, and lingers: the stop puts it.
        wait_for(
            lambda: safe(consumer) + consumer.metric("lakefeed_consumer_in_flight_events") == 1000,
            60,
            lambda: consumer.log,
        )
        assert consumer.stop() == 0
    assert settled(kafka, topic, group, 1000)
    stored = stored_records(s3, bucket, topic)
    assert len(stored) == 1000
    assert set(stored) == records_of(kafka, topic)
    assert objects(s3, bucket, "dead-letters/") == {}
    assert objects(s3, bucket, "events/") == {}


def test_a_worker_that_was_fenced_doubles_nothing_when_it_returns(
    kafka: str, topic: str, bucket: str, s3: S3Client, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    make_topic(kafka, topic, PARTITIONS)
    group = consumer_settings["LAKEFEED_CONSUMER_GROUP"]
    publish_records(kafka, topic, 2000)
    settings = consumer_settings | {"LAKEFEED_LAYOUT": "batches", "LAKEFEED_BATCH_LINGER_SECONDS": "1"}
    one_batches = settings | {"LAKEFEED_BATCH_MAX_EVENTS": "50"}
    two_batches = settings | {"LAKEFEED_BATCH_MAX_EVENTS": "130"}
    with Service("consumer", log=tmp_path / "one", program=SLOW, **one_batches) as one:
        wait_stored(one, 100)
        one.process.send_signal(signal.SIGSTOP)
        with Service("consumer", "run", log=tmp_path / "two", **two_batches) as two:
            wait_for(lambda: two.metric("lakefeed_consumer_assigned_partitions") == 2, 60, lambda: two.log)
            wait_stored(two, 300)
            one.process.send_signal(signal.SIGCONT)
            publish_records(kafka, topic, 500, start=2000)
            wait_for(lambda: settled(kafka, topic, group, 2500), 90, lambda: one.log + two.log)
            assert (one.stop(), two.stop()) == (0, 0)
    stored = stored_records(s3, bucket, topic)
    assert len(stored) == 2500
    assert set(stored) == records_of(kafka, topic)
    assert objects(s3, bucket, "dead-letters/") == {}


def test_a_worker_that_had_no_partitions_loses_nothing_when_it_gets_some(
    kafka: str, topic: str, bucket: str, s3: S3Client, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    """Faust delivers the events of a member's first partitions before it seeks the committed offsets."""
    make_topic(kafka, topic, PARTITIONS)
    group = consumer_settings["LAKEFEED_CONSUMER_GROUP"]
    settings = consumer_settings | {"LAKEFEED_LAYOUT": "batches", "LAKEFEED_BATCH_LINGER_SECONDS": "0.5"}
    publish_records(kafka, topic, 200)
    with ExitStack() as stack:
        workers = []
        for number in range(PARTITIONS + 1):
            worker = Service("consumer", log=tmp_path / f"{number}", program=LATE_ANSWER, **settings)
            workers.append(stack.enter_context(worker))

        def logs() -> str:
            return "".join(worker.log for worker in workers)

        def spare() -> Service | None:
            """The worker without partitions, if each of the others has one."""
            count = [worker.metric("lakefeed_consumer_assigned_partitions") for worker in workers]
            return workers[count.index(0)] if sorted(count) == [0] + [1] * PARTITIONS else None

        wait_for(lambda: settled(kafka, topic, group, 200) and spare(), 60, logs)
        publish_records(kafka, topic, 200, start=200)
        left = wait_for(lambda: spare() if settled(kafka, topic, group, 400) else None, 60, logs)
        assert left is not None
        for worker in set(workers) - {left}:
            worker.process.kill()
        publish_records(kafka, topic, 600, start=400)
        wait_for(lambda: settled(kafka, topic, group, 1000), 60, logs)
        assert left.stop() == 0
    stored = stored_records(s3, bucket, topic)
    assert len(stored) == 1000
    assert set(stored) == records_of(kafka, topic)
