"""The consumer's own command against a real broker and a real S3 server."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
from confluent_kafka.admin import AdminClient

from lakefeed_local.broker import Broker
from tests.helpers.consuming import (
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


@pytest.mark.parametrize("feed", ["batches", "events"])
def test_each_event_becomes_its_object_and_a_replay_changes_none(
    kafka: str,
    topic: str,
    bucket: str,
    s3: S3Client,
    consumer_settings: dict[str, str],
    tmp_path: Path,
    feed: str,
) -> None:
    consumer_settings["LAKEFEED_FEED"] = feed
    make_topic(kafka, topic, partitions=3)
    held = publish(kafka, topic, events(300))
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        wait_stored(consumer, 300)
        wait_for(lambda: consumer.metric("lakefeed_consumer_committed_offset") == 300, 20, "committed")
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
        wait_stored(again, 300)
        assert again.metric("lakefeed_consumer_objects_total", outcome="already_there") == 300
    assert objects(s3, bucket, "") == stored
    after = {entry["Key"]: entry["LastModified"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert after == written


def test_what_is_no_event_becomes_a_dead_letter(
    kafka: str, topic: str, bucket: str, s3: S3Client, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    make_topic(kafka, topic)
    publish(kafka, topic, [b'{"a":1}', None, b"hello", b"[1,2]", b'{"b":2}'])
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        wait_stored(consumer, 5)
        assert consumer.metric("lakefeed_consumer_objects_total", outcome="dead_letter") == 3
    assert len(objects(s3, bucket, "events/")) == 2
    letters = [orjson.loads(body) for body in objects(s3, bucket, f"dead-letters/{topic}/dt=").values()]
    assert [letter["offset"] for letter in letters] == [1, 2, 3]
    assert letters[0]["value"] is None
    assert "array" in letters[2]["reason"]


@pytest.mark.parametrize("feed", ["batches", "events"])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_or_killed_in_the_middle_nothing_is_lost(
    kafka: str,
    topic: str,
    bucket: str,
    s3: S3Client,
    consumer_settings: dict[str, str],
    tmp_path: Path,
    end: signal.Signals,
    feed: str,
) -> None:
    consumer_settings["LAKEFEED_FEED"] = feed
    make_topic(kafka, topic, partitions=2)
    held = publish(kafka, topic, events(1500))
    group = consumer_settings["LAKEFEED_CONSUMER_GROUP"]
    # 160 a second at the most: it is in the middle for some seconds.
    slow = consumer_settings | {"LAKEFEED_PUTS_IN_FLIGHT": "32"}
    with Service("consumer", log=tmp_path / "log", program=with_slow_puts(0.2), **slow) as consumer:
        wait_stored(consumer, 200)
        consumer.process.send_signal(end)
        code = consumer.process.wait(40)
    stored = by_position(objects(s3, bucket, "events/"))
    assert 200 <= len(stored) < 1500
    for partition, offset in committed(kafka, topic, group, 2).items():
        assert all((partition, before) in stored for before in range(max(0, offset)))
    if end == signal.SIGTERM:
        assert code == 0, consumer.log
        # All that was in flight was stored and committed: nothing is stored beyond what is committed.
        done = committed(kafka, topic, group, 2).values()
        assert len(stored) == sum(max(0, offset) for offset in done), "below 0: nothing is committed yet"
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings):
        wait_for(lambda: committed(kafka, topic, group, 2) == ends(held), 90, "all committed")
    assert by_position(objects(s3, bucket, "events/")) == held
    assert objects(s3, bucket, "dead-letters/") == {}


def test_a_stop_while_the_bucket_is_away_ends_in_time_and_commits_nothing_that_is_not_stored(
    kafka: str, topic: str, bucket: str, s3: S3Client, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    make_topic(kafka, topic)
    consumer_settings |= {"LAKEFEED_DRAIN_SECONDS": "2", "LAKEFEED_PUTS_IN_FLIGHT": "64"}
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        held = publish(kafka, topic, events(10))
        wait_stored(consumer, 10)
        for key in objects(s3, bucket, ""):
            s3.delete_object(Bucket=bucket, Key=key)
        s3.delete_bucket(Bucket=bucket)
        publish(kafka, topic, events(200, start=10))
        wait_for(
            lambda: consumer.metric("lakefeed_consumer_in_flight_events") == 64, 30, lambda: consumer.log
        )
        began = time.monotonic()
        assert consumer.stop() == 0
        assert time.monotonic() - began < 15, "drain_seconds and what Faust takes to stop"
        assert "events are not stored after 2 s and will be read again" in consumer.log
    assert committed(kafka, topic, consumer_settings["LAKEFEED_CONSUMER_GROUP"], 1) == ends(held)


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_every_compression_is_read(
    kafka: str,
    topic: str,
    bucket: str,
    s3: S3Client,
    consumer_settings: dict[str, str],
    tmp_path: Path,
    compression: str,
) -> None:
    make_topic(kafka, topic)
    held = publish(kafka, topic, events(100), compression)
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        wait_stored(consumer, 100)
    assert by_position(objects(s3, bucket, "events/")) == held


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
        held |= publish(kafka, topic, events(300, start=30))
        wait_for(lambda: one.metric("lakefeed_consumer_events_taken_total") > 0, 30, "one works")
        wait_for(lambda: two.metric("lakefeed_consumer_events_taken_total") > 0, 30, "two works")
        one.stop()
        held |= publish(kafka, topic, events(300, start=330))
        wait_for(
            lambda: committed(kafka, topic, consumer_settings["LAKEFEED_CONSUMER_GROUP"], 3) == ends(held),
            90,
            lambda: two.log,
        )
    assert by_position(objects(s3, bucket, "events/")) == held


def test_without_a_topic_it_waits_and_says_so(
    kafka: str, topic: str, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        wait_unready(consumer, "kafka", topic)
        assert consumer.get("/healthz")[0] == 200
        make_topic(kafka, topic)
        publish(kafka, topic, events(3))
        wait_stored(consumer, 3)
        consumer.wait_ready()
        assert consumer.log.count("there is no topic") == 1


def test_a_wrong_bucket_stops_consumption_until_it_is_there(
    kafka: str, topic: str, s3: S3Client, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    make_topic(kafka, topic)
    publish(kafka, topic, events(20))
    consumer_settings["LAKEFEED_BUCKET"] = late = f"late-{topic}"
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        wait_for(
            lambda: "no such bucket" in consumer.unready_reasons().get("bucket", ""), 30, lambda: consumer.log
        )
        s3.create_bucket(Bucket=late)
        wait_stored(consumer, 20)
        consumer.wait_ready()
    assert len(objects(s3, late, "events/")) == 20


def test_a_bucket_that_goes_and_comes_back_costs_nothing(
    kafka: str, topic: str, bucket: str, s3: S3Client, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    make_topic(kafka, topic)
    consumer_settings["LAKEFEED_PUTS_IN_FLIGHT"] = "64"
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        consumer.wait_ready()
        s3.delete_bucket(Bucket=bucket)
        held = publish(kafka, topic, events(200))
        wait_for(
            lambda: "no such bucket" in consumer.unready_reasons().get("bucket", ""), 30, lambda: consumer.log
        )
        assert consumer.metric("lakefeed_consumer_in_flight_events") == 64
        assert set(committed(kafka, topic, consumer_settings["LAKEFEED_CONSUMER_GROUP"], 1).values()) <= {
            -1001,
            0,
        }
        s3.create_bucket(Bucket=bucket)
        wait_stored(consumer, 200)
        consumer.wait_ready()
        assert consumer.log.count("no such bucket") == 1
    assert by_position(objects(s3, bucket, "events/")) == held


def test_a_restarted_broker_is_waited_for(
    own_kafka: Broker,
    topic: str,
    bucket: str,
    s3: S3Client,
    consumer_settings: dict[str, str],
    tmp_path: Path,
) -> None:
    kafka = consumer_settings["LAKEFEED_KAFKA_BOOTSTRAP_SERVERS"] = own_kafka.bootstrap_servers
    make_topic(kafka, topic)
    held = publish(kafka, topic, events(50))
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        wait_stored(consumer, 50)
        own_kafka.restart_kafka()
        held |= publish(kafka, topic, events(50, start=50))
        wait_stored(consumer, 100, timeout=90)
        assert consumer.stop() == 0
    assert by_position(objects(s3, bucket, "events/")) == held


def test_a_topic_that_is_deleted_is_missed_and_read_from_its_start_when_it_is_back(
    kafka: str, topic: str, bucket: str, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    make_topic(kafka, topic)
    publish(kafka, topic, events(20))
    group = consumer_settings["LAKEFEED_CONSUMER_GROUP"]
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        wait_for(lambda: committed(kafka, topic, group, 1) == {0: 20}, 60, lambda: consumer.log)
        admin = AdminClient({"bootstrap.servers": kafka})
        admin.delete_topics([topic])[topic].result(30)
        wait_unready(consumer, "kafka", f"there is no topic {topic}")
        assert consumer.get("/healthz")[0] == 200
        make_topic(kafka, topic)
        publish(kafka, topic, events(5))
        wait_stored(consumer, 25)
        wait_for(lambda: committed(kafka, topic, group, 1) == {0: 5}, 30, lambda: consumer.log)
        consumer.wait_ready()


def test_a_worker_without_partitions_tells_when_the_broker_is_away(
    own_kafka: Broker, topic: str, bucket: str, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    consumer_settings["LAKEFEED_KAFKA_BOOTSTRAP_SERVERS"] = own_kafka.bootstrap_servers
    consumer_settings["LAKEFEED_KAFKA_TIMEOUT_SECONDS"] = "3"
    make_topic(own_kafka.bootstrap_servers, topic)
    with (
        Service("consumer", "run", log=tmp_path / "one", **consumer_settings) as one,
        Service("consumer", "run", log=tmp_path / "two", **consumer_settings) as two,
    ):
        for worker in (one, two):
            worker.wait_ready()
        wait_for(
            lambda: (
                sorted(w.metric("lakefeed_consumer_assigned_partitions") for w in (one, two)) == [0, 1]
                and all(w.metric("lakefeed_consumer_rebalances_total") for w in (one, two))
            ),
            60,
            lambda: one.log + two.log,
        )
        own_kafka.stop_kafka()
        for worker in (one, two):
            wait_unready(worker, "kafka", own_kafka.bootstrap_servers)
            assert worker.stop() == 0


def test_an_unreachable_broker_is_named(consumer_settings: dict[str, str], tmp_path: Path) -> None:
    consumer_settings["LAKEFEED_KAFKA_BOOTSTRAP_SERVERS"] = "127.0.0.1:1"
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        wait_for(
            lambda: "127.0.0.1:1" in consumer.unready_reasons().get("kafka", ""), 30, lambda: consumer.log
        )
        assert consumer.get("/healthz")[0] == 200
        assert consumer.stop() == 0


def test_a_wrong_setting_ends_with_2_and_one_line(consumer_settings: dict[str, str], tmp_path: Path) -> None:
    consumer_settings["LAKEFEED_PUTS_IN_FLIGHT"] = "many"
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        assert consumer.process.wait(30) == 2
    assert consumer.log.startswith("error: LAKEFEED_PUTS_IN_FLIGHT='many'")
    assert "Traceback" not in consumer.log


def test_a_dead_agent_fails_liveness(
    kafka: str, topic: str, bucket: str, consumer_settings: dict[str, str], tmp_path: Path
) -> None:
    make_topic(kafka, topic)
    consumer_settings["LAKEFEED_STALL_SECONDS"] = "3"
    program = changed("feeder.Feeder._store_events = AsyncMock()")
    with Service("consumer", log=tmp_path / "log", program=program, **consumer_settings) as consumer:
        wait_for(lambda: b"agent" in consumer.get("/healthz")[1], 60, lambda: consumer.log)
        assert consumer.get("/healthz")[0] == 503


def test_a_broker_that_goes_while_faust_starts_is_one_line(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    settings = {"LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": address, "LAKEFEED_DRAIN_SECONDS": "1"}
    # The waits before Faust's start are over, and the broker is gone again.
    program = changed("service._prepare = AsyncMock()")
    with Service("consumer", log=tmp_path / "log", program=program, **settings) as consumer:
        assert consumer.process.wait(90) == 1
    assert f"error: Faust cannot start with the broker at {address}" in consumer.log
    assert "Traceback" not in consumer.log
