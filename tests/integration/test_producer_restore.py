"""`lakefeed-producer restore` with real servers: killed, twice at once, refused, consumed again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from lakefeed_common.lake.records import Partition, Record
from lakefeed_producer.restore.tail import Origin
from tests.helpers.commands import Done
from tests.helpers.lake_objects import Stored, batches, event, some_records
from tests.helpers.publishing import command, make_topic, start
from tests.helpers.seaweed import SeaweedS3, access
from tests.helpers.services import Service
from tests.helpers.waiting import wait_for

ROWS = 1_500


@pytest.fixture
def lake(seaweed: SeaweedS3, topic: str) -> str:
    """A bucket of the test."""
    seaweed.client().create_bucket(Bucket=topic)
    return topic


def store(seaweed: SeaweedS3, bucket: str, objects: Sequence[Stored]) -> None:
    client = seaweed.client()
    for one in objects:
        client.put_object(Bucket=bucket, Key=one.key, Body=one.body, Metadata=one.metadata)
    client.close()


def variables(kafka: str, seaweed: SeaweedS3) -> dict[str, str]:
    return {**access(seaweed.endpoint_url), "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": kafka}


def read(kafka: str, topic: str, partition: int) -> list[Record]:
    """Everything in a partition, as a consumer that does not know transactions reads it."""
    config = {"bootstrap.servers": kafka, "group.id": "tests", "enable.auto.commit": False}
    consumer = Consumer({**config, "enable.partition.eof": True, "isolation.level": "read_uncommitted"})
    consumer.assign([TopicPartition(topic, partition, 0)])
    found: list[Record] = []
    while True:
        for message in consumer.consume(10_000, timeout=1):
            if (error := message.error()) is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                consumer.close()
                return found
            headers: Any = tuple(message.headers() or ())
            where, offset = Partition(topic, partition), message.offset()
            assert offset is not None
            found.append(
                Record(where, offset, message.timestamp()[1], message.key(), message.value(), headers)
            )


def as_they_were(records: Sequence[Record]) -> list[Record]:
    """Restored records with topic, partition and offset of their origin, without the header that says it."""
    found = []
    for record in records:
        origin = Origin.of(record.headers)
        assert origin is not None
        where = Partition(origin.topic, origin.partition)
        found.append(record._replace(partition=where, offset=origin.offset, headers=record.headers[:-1]))
    return found


def size(kafka: str, topic: str, partitions: int = 1) -> int:
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "tests"})
    known = consumer.list_topics(timeout=30).topics.get(topic)
    ends = [
        consumer.get_watermark_offsets(TopicPartition(topic, at), timeout=30)[1] if known else 0
        for at in range(partitions)
    ]
    consumer.close()
    return sum(ends)


def test_killed_in_the_middle_and_started_again_every_record_is_there_once_as_it_was(
    kafka: str, seaweed: SeaweedS3, topic: str, lake: str, tmp_path: Path
) -> None:
    """Then a second one takes over from a first one that is still running."""
    expected = [some_records(range(5, ROWS), number) for number in range(3)]
    store(seaweed, lake, [one for records in expected for one in batches(records, 200)])
    arguments = ("restore", f"s3://{lake}/batches/prices", "--to", topic)
    settings = access(seaweed.endpoint_url)

    def reached(goal: int, run: subprocess.Popen[str]) -> bool:
        return size(kafka, topic, 3) >= goal or run.poll() is not None

    for goal in (300, 900):
        with start(tmp_path, *arguments, "--rate", "400", kafka=kafka, topic=topic, **settings) as run:
            wait_for(partial(reached, goal, run), 90)
            assert run.poll() is None, "it ended before it could be killed"
            run.kill()
    with start(tmp_path, *arguments, "--rate", "100", kafka=kafka, topic=topic, **settings) as first:
        wait_for(partial(reached, size(kafka, topic, 3) + 50, first), 90)
        assert first.poll() is None
        # Two files: only the first one's has what the first one sent.
        second = restore(tmp_path, *arguments, "--offset-map", "second.jsonl", kafka=kafka, seaweed=seaweed)
        assert second.returncode == 0, second.stderr
        assert "resuming after what the topic has already" in second.stderr
        _, errors = first.communicate(timeout=90)
    assert first.returncode == 1, errors
    assert "taken over the topic: nothing more is sent from here" in errors
    found = [read(kafka, topic, number) for number in range(3)]
    assert [as_they_were(records) for records in found] == expected
    mapped = {}
    for line in (tmp_path / "second.jsonl").read_text().splitlines()[1:]:
        run_of = json.loads(line)
        for at in range(run_of["count"]):
            mapped[run_of["partition"], run_of["old"] + at] = run_of["new"] + at
    assert mapped == {
        (number, old.offset): new.offset
        for number in range(3)
        for old, new in zip(expected[number], found[number], strict=True)
    }
    again = restore(tmp_path, *arguments, kafka=kafka, seaweed=seaweed)
    assert again.returncode == 0, again.stderr
    assert "0 records restored" in again.stderr
    assert [read(kafka, topic, number) for number in range(3)] == found


def restore(folder: Path, *arguments: str, kafka: str, seaweed: SeaweedS3) -> Done:
    return command(folder, *arguments, **variables(kafka, seaweed))


def test_events_are_restored_and_consumed_into_another_layout(
    kafka: str, seaweed: SeaweedS3, topic: str, lake: str, tmp_path: Path
) -> None:
    """A backfill: from one-event objects by a topic into another prefix, in the same order."""
    expected = [some_records(range(200), number) for number in range(2)]
    store(seaweed, lake, [event(record) for records in expected for record in records])
    done = restore(
        tmp_path, "restore", f"s3://{lake}/events/prices", "--to", topic, kafka=kafka, seaweed=seaweed
    )
    assert done.returncode == 0, done.stderr
    assert [as_they_were(read(kafka, topic, number)) for number in range(2)] == expected
    consumer = {
        **variables(kafka, seaweed),
        "LAKEFEED_TOPIC": topic,
        "LAKEFEED_BUCKET": lake,
        "LAKEFEED_EVENTS_PREFIX": "again",
        "LAKEFEED_CONSUMER_GROUP": f"group-{topic}",
        "LAKEFEED_COMMIT_INTERVAL_SECONDS": "0.2",
    }
    client = seaweed.client()

    def keys() -> list[str]:
        return [
            one["Key"]
            for one in client.list_objects_v2(Bucket=lake, Prefix=f"again/{topic}/").get("Contents", [])
        ]

    with Service("consumer", "run", log=tmp_path / "log", **consumer):
        wait_for(lambda: len(keys()) == 400, 90, lambda: f"{len(keys())} objects")
    for number in range(2):
        mine = [key for key in keys() if f"/{number:05d}-" in key]
        bodies = [client.get_object(Bucket=lake, Key=key)["Body"].read() for key in mine]
        assert bodies == [record.value for record in expected[number]]
        days = {key.split("/")[2] for key in mine}
        assert days == {"dt=2026-01-01"}, "by the timestamp of the record, not of the restore"
    client.close()


@pytest.mark.parametrize(
    ("config", "partitions", "says"),
    [
        ({"message.timestamp.type": "LogAppendTime"}, 1, "would replace all timestamps"),
        ({"cleanup.policy": "compact"}, 1, "compaction would delete"),
        ({"retention.ms": "86400000"}, 1, "--accept retention"),
        ({}, 2, "has 2 partitions, and the origin had 1"),
    ],
)
def test_a_topic_that_would_not_keep_the_records_is_refused(
    config: dict[str, str],
    partitions: int,
    says: str,
    kafka: str,
    seaweed: SeaweedS3,
    topic: str,
    lake: str,
    tmp_path: Path,
) -> None:
    store(seaweed, lake, list(batches(some_records(range(3)), 10)))
    make_topic(kafka, topic, partitions, **config)
    for options in ((), ("--dry-run",)):
        done = restore(
            tmp_path,
            "restore",
            f"s3://{lake}/batches/prices",
            "--to",
            topic,
            *options,
            kafka=kafka,
            seaweed=seaweed,
        )
        assert done.returncode == 1
        assert says in done.stderr
    assert size(kafka, topic, partitions) == 0


def test_a_record_that_is_too_large_for_the_topic_stops_its_partition_until_the_topic_accepts_it(
    kafka: str, seaweed: SeaweedS3, topic: str, lake: str, tmp_path: Path
) -> None:
    noise = bytes(at * at % 251 for at in range(9_000)).hex().encode()
    records = some_records(range(300))
    records[150] = records[150]._replace(value=b'{"noise":"%s"}' % noise)
    store(seaweed, lake, list(batches(records, 100)))
    make_topic(kafka, topic, 1, **{"max.message.bytes": "4000", "retention.ms": "-1"})
    arguments = ("restore", f"s3://{lake}/batches/prices", "--to", topic)
    settings = {"LAKEFEED_COMPRESSION": "none"}
    done = command(tmp_path, *arguments, **variables(kafka, seaweed), **settings)
    assert done.returncode == 1
    assert "does not accept the record of offset 150 of partition 0, nor anything after it" in done.stderr
    assert as_they_were(read(kafka, topic, 0)) == records[:150]
    change = ConfigEntry("max.message.bytes", "100000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.incremental_alter_configs([resource])[resource].result(30)
    done = command(tmp_path, *arguments, **variables(kafka, seaweed), **settings)
    assert done.returncode == 0, done.stderr
    assert as_they_were(read(kafka, topic, 0)) == records


def test_records_of_another_application_in_the_topic_are_refused(
    kafka: str, seaweed: SeaweedS3, topic: str, lake: str, tmp_path: Path
) -> None:
    store(seaweed, lake, list(batches(some_records(range(3)), 10)))
    (tmp_path / "x.csv").write_text("n\n1\n")
    assert (
        command(tmp_path, "publish", "x.csv", "--topic", topic, **variables(kafka, seaweed)).returncode == 0
    )
    done = restore(
        tmp_path,
        "restore",
        f"s3://{lake}/batches/prices",
        "--to",
        topic,
        "--accept",
        "retention",
        kafka=kafka,
        seaweed=seaweed,
    )
    assert done.returncode == 1
    assert "has no header lakefeed-origin" in done.stderr


def test_both_layouts_are_restored_in_order_and_one_after_the_other_is_refused(
    kafka: str, seaweed: SeaweedS3, topic: str, lake: str, tmp_path: Path
) -> None:
    """The layout was changed, and changed back."""
    records = some_records(range(90))
    store(seaweed, lake, [*map(event, records[:30]), *batches(records[30:60], 10), *map(event, records[60:])])
    layouts = [f"s3://{lake}/events/prices", f"s3://{lake}/batches/prices"]
    run = partial(restore, tmp_path, "restore", kafka=kafka, seaweed=seaweed)

    nowhere = run(*layouts, "--to", topic, "--offset-map", "/no/such/folder/map.jsonl")
    assert nowhere.returncode == 2
    assert "/no/such/folder/map.jsonl cannot be written" in nowhere.stderr
    assert size(kafka, topic) == 0, "the topic was not created"

    both = run(*layouts, "--to", topic, "--dry-run")
    assert both.returncode == 0, both.stderr
    assert not list(tmp_path.iterdir())
    both = run(*layouts, "--to", topic)
    assert both.returncode == 0, both.stderr
    assert as_they_were(read(kafka, topic, 0)) == records
    again = run(*reversed(layouts), "--to", topic, "--dry-run")
    assert again.returncode == 0, again.stderr

    one = f"{topic}-one"
    assert run(layouts[0], "--to", one).returncode == 0
    for arguments in (layouts[1:], layouts, [*layouts, "--dry-run"]):
        refused = run(*arguments, "--to", one)
        assert refused.returncode == 1, refused.stderr
        assert "has records that the target does not have" in refused.stderr
