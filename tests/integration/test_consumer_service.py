"""The consumer's own command against a real broker and a real S3 server."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
from confluent_kafka.admin import AdminClient

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
    wait_stored,
    wait_unready,
    with_slow_puts,
)
from tests.helpers.services import Service, free_port
from tests.helpers.waiting import wait_for

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.mark.smoke
def test_each_event_becomes_its_object_and_a_replay_changes_none(
    kafka: str,
    topic: str,
    bucket: str,
    s3: S3Client,
    consumer_settings: dict[str, str],
    tmp_path: Path,
) -> None:
    make_topic(kafka, topic, partitions=3)
    held: dict[Position, bytes | None] = {}
    for number, compression in enumerate(COMPRESSIONS):
        held |= publish(kafka, topic, events(20, start=number * 20), compression)
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        wait_stored(consumer, 100)
        wait_for(lambda: consumer.metric("lakefeed_consumer_committed_offset") == 100, 20, "committed")
        wait_for(lambda: consumer.metric("lakefeed_consumer_lag_events") == 0, 20, "lag 0")
        assert consumer.metric("lakefeed_consumer_assigned_partitions") == 3
        assert consumer.stop() == 0
    stored = objects(s3, bucket, "")
    assert by_position(stored) == held
    assert all(key.startswith(f"events/{topic}/dt=20") for key in stored)
    assert committed(kafka, topic, consumer_settings["LAKEFEED_CONSUMER_GROUP"], 3) == ends(held)

    written = {entry["Key"]: entry["LastModified"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    consumer_settings["LAKEFEED_CONSUMER_GROUP"] = f"again-{topic}"
    with Service("consumer", "run", log=tmp_path / "again", **consumer_settings) as again:
        wait_stored(again, 100)
        assert again.metric("lakefeed_consumer_objects_total", outcome="already_there") == 100
    assert objects(s3, bucket, "") == stored
    after = {entry["Key"]: entry["LastModified"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert after == written


@pytest.mark.smoke
def test_an_invalid_event_becomes_a_dead_letter(
    kafka: str, topic: str, bucket: str, s3: S3Client, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    make_topic(kafka, topic)
    publish(kafka, topic, [b'{"a":1}', None, b"hello", b"[1,2]", b'{"b":2}'])
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        wait_stored(consumer, 5)
        assert consumer.metric("lakefeed_consumer_objects_total", outcome="dead_letter") == 3
    assert sorted(objects(s3, bucket, "events/").values()) == [b'{"a":1}', b'{"b":2}']
    letters = [orjson.loads(body) for body in objects(s3, bucket, f"dead-letters/{topic}/dt=").values()]
    assert [letter["offset"] for letter in letters] == [1, 2, 3]
    assert letters[0]["value"] is None
    assert "array" in letters[2]["reason"]


@pytest.mark.smoke
def test_nothing_is_lost_when_stopped_or_killed_in_the_middle(
    kafka: str,
    topic: str,
    bucket: str,
    s3: S3Client,
    consumer_settings: dict[str, str],
    tmp_path: Path,
) -> None:
    make_topic(kafka, topic, partitions=2)
    held = publish(kafka, topic, events(600))
    group = consumer_settings["LAKEFEED_CONSUMER_GROUP"]
    # At most 40 events/s: it is in the middle for a while.
    slow = consumer_settings | {"LAKEFEED_PUTS_IN_FLIGHT": "16"}
    before = 0
    for end in (signal.SIGTERM, signal.SIGKILL):
        with Service("consumer", log=tmp_path / "log", program=with_slow_puts(0.4), **slow) as consumer:
            wait_stored(consumer, 50)
            consumer.process.send_signal(end)
            code = consumer.process.wait(40)
        stored = positions(s3, bucket)
        assert before + 20 <= len(stored) < len(held), "some were stored already and read again"
        done = {partition: max(0, offset) for partition, offset in committed(kafka, topic, group, 2).items()}
        for partition, offset in done.items():
            assert all((partition, earlier) in stored for earlier in range(offset))
        if end == signal.SIGTERM:
            assert code == 0, consumer.log
            # All that was in flight was stored and committed: nothing is stored beyond what is committed.
            assert len(stored) == sum(done.values())
        else:
            assert code == -signal.SIGKILL
        before = len(stored)
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings):
        wait_for(lambda: committed(kafka, topic, group, 2) == ends(held), 90, "all committed", every=0.2)
    assert by_position(objects(s3, bucket, "events/")) == held
    assert objects(s3, bucket, "dead-letters/") == {}


def test_an_outage_of_the_bucket_loses_nothing(
    kafka: str, topic: str, s3: S3Client, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    make_topic(kafka, topic)
    held = publish(kafka, topic, events(20))
    group = consumer_settings["LAKEFEED_CONSUMER_GROUP"]
    consumer_settings["LAKEFEED_BUCKET"] = late = f"late-{topic}"
    consumer_settings |= {"LAKEFEED_DRAIN_SECONDS": "2", "LAKEFEED_PUTS_IN_FLIGHT": "64"}
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        # Not there at the start.
        wait_unready(consumer, "bucket", "no such bucket")
        s3.create_bucket(Bucket=late)
        wait_stored(consumer, 20)
        consumer.wait_ready()
        wait_for(lambda: committed(kafka, topic, group, 1) == ends(held), 30, "committed", every=0.2)
        assert by_position(objects(s3, late, "events/")) == held

        # Gone for a while.
        remove_bucket(s3, late)
        before = ends(held)
        new = publish(kafka, topic, events(100, start=20))
        wait_unready(consumer, "bucket", "no such bucket")
        wait_for(lambda: in_flight(consumer) == 64, 30, lambda: consumer.log)
        assert committed(kafka, topic, group, 1) == before
        s3.create_bucket(Bucket=late)
        wait_stored(consumer, 120)
        consumer.wait_ready()
        assert consumer.log.count("no such bucket") == 2, "once for each time"
        wait_for(lambda: committed(kafka, topic, group, 1) == ends(new), 30, "committed", every=0.2)
        assert by_position(objects(s3, late, "events/")) == new

        # Gone again; and a stop meanwhile ends in time, and commits nothing that is not stored.
        remove_bucket(s3, late)
        publish(kafka, topic, events(100, start=120))
        wait_for(lambda: in_flight(consumer) == 64, 30, lambda: consumer.log)
        assert consumer.stop() == 0
        assert "events are not stored after 2 s and will be read again" in consumer.log
    assert committed(kafka, topic, group, 1) == ends(new)


def positions(s3: S3Client, bucket: str) -> set[Position]:
    """Of which records there are objects; their bodies are not read."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="events/")
    return set(by_position({entry["Key"]: b"" for page in pages for entry in page.get("Contents", [])}))


def in_flight(consumer: Service) -> float:
    return consumer.metric("lakefeed_consumer_in_flight_events")


def remove_bucket(s3: S3Client, bucket: str) -> None:
    for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]:
        s3.delete_object(Bucket=bucket, Key=entry["Key"])
    s3.delete_bucket(Bucket=bucket)


def test_a_deleted_topic_is_reported_and_read_from_its_start_when_recreated(
    kafka: str, topic: str, bucket: str, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    group = consumer_settings["LAKEFEED_CONSUMER_GROUP"]
    make_topic(kafka, f"another-{topic}")  # a broker without any may just have started
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        # Not there at the start.
        wait_unready(consumer, "kafka", f"there is no topic {topic}")
        assert consumer.get("/healthz")[0] == 200
        make_topic(kafka, topic)
        publish(kafka, topic, events(20))
        wait_for(lambda: committed(kafka, topic, group, 1) == {0: 20}, 60, lambda: consumer.log, every=0.2)
        consumer.wait_ready()
        assert consumer.log.count("there is no topic") == 1

        admin = AdminClient({"bootstrap.servers": kafka})
        admin.delete_topics([topic])[topic].result(30)
        wait_unready(consumer, "kafka", f"there is no topic {topic}")
        assert consumer.get("/healthz")[0] == 200
        make_topic(kafka, topic)
        publish(kafka, topic, events(5))
        wait_stored(consumer, 25)
        wait_for(lambda: committed(kafka, topic, group, 1) == {0: 5}, 30, lambda: consumer.log, every=0.2)
        consumer.wait_ready()


def test_workers_share_the_partitions_and_take_over_from_one_that_is_killed(
    kafka: str, topic: str, bucket: str, s3: S3Client, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    make_topic(kafka, topic, partitions=3)
    held = publish(kafka, topic, events(30))
    with (
        Service("consumer", "run", log=tmp_path / "one", **consumer_settings) as one,
        Service("consumer", "run", log=tmp_path / "two", **consumer_settings) as two,
    ):

        def shares() -> list[float]:
            return sorted(worker.metric("lakefeed_consumer_assigned_partitions") for worker in (one, two))

        wait_for(lambda: shares() == [1, 2], 60, lambda: f"{shares()}\n{one.log}\n{two.log}")
        held |= publish(kafka, topic, events(90, start=30))
        wait_for(lambda: one.metric("lakefeed_consumer_events_taken_total") > 0, 30, "one works")
        wait_for(lambda: two.metric("lakefeed_consumer_events_taken_total") > 0, 30, "two works")
        one.stop()
        held |= publish(kafka, topic, events(60, start=120))
        wait_for(
            lambda: committed(kafka, topic, consumer_settings["LAKEFEED_CONSUMER_GROUP"], 3) == ends(held),
            90,
            lambda: two.log,
            every=0.2,
        )
    assert by_position(objects(s3, bucket, "events/")) == held


def test_an_unreachable_broker_is_named(consumer_settings: dict[str, str], tmp_path: Path) -> None:
    consumer_settings["LAKEFEED_KAFKA_BOOTSTRAP_SERVERS"] = "127.0.0.1:1"
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        wait_for(
            lambda: "127.0.0.1:1" in consumer.unready_reasons().get("kafka", ""), 30, lambda: consumer.log
        )
        assert consumer.get("/healthz")[0] == 200
        assert consumer.stop() == 0


def test_a_broker_that_becomes_unreachable_while_faust_starts_is_one_line(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    settings = {"LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": address, "LAKEFEED_DRAIN_SECONDS": "1"}
    # The waits before Faust's start are over, and the broker is gone again.
    program = changed("service._prepare = AsyncMock()")
    with Service("consumer", log=tmp_path / "log", program=program, **settings) as consumer:
        assert consumer.process.wait(90) == 1
    assert f"error: Faust cannot start with the broker at {address}" in consumer.log
    assert "Traceback" not in consumer.log


def test_the_consumer_exits_after_sigterm_although_a_call_never_returns(tmp_path: Path) -> None:
    hangs = changed("service.open_store = lambda settings: time.sleep(3_600)")
    with Service("consumer", log=tmp_path / "log", program=hangs, LAKEFEED_DRAIN_SECONDS="1") as consumer:
        wait_for(lambda: consumer.get("/healthz")[0] == 200, 60, lambda: consumer.log)
        assert consumer.stop() == 0
        assert "Not everything has stopped within 11 s" in consumer.log
