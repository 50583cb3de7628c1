"""Dead letters of the consumer's own command: kept whole, limited, listed, shown and replayed."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from lakefeed_common.lake.keys import event_key
from lakefeed_common.lake.lines import to_line
from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer import cli
from lakefeed_consumer.dead_letters.format import DeadLetter
from lakefeed_consumer.sink.batches.batch import Batch
from tests.helpers.broken_records import KINDS, STORED
from tests.helpers.consuming import committed, events, make_topic, objects, publish, wait_stored
from tests.helpers.lake_objects import some_records
from tests.helpers.services import Service, free_port
from tests.helpers.waiting import wait_for

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Settings = dict[str, str]


# Kafka deletes a record by its own timestamp, and these are older than a topic's usual retention.
LASTING = {"retention.ms": "-1"}


def send(kafka: str, topic: str, records: Sequence[Record]) -> list[Record]:
    """Produce records as they are, one after the other, null keys and odd timestamps included."""

    async def work() -> list[Record]:
        held = []
        async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
            for record in records:
                batch = producer.create_batch()
                batch.append(
                    timestamp=record.timestamp_ms,
                    key=record.key,
                    value=record.value,
                    headers=list(record.headers),
                )
                number = record.partition.number
                sent = await (await producer.send_batch(batch, topic, partition=number))
                held.append(
                    Record(
                        Partition(topic, number),
                        sent.offset,
                        record.timestamp_ms,
                        record.key,
                        record.value,
                        record.headers,
                    )
                )
        return held

    return asyncio.run(work())


def log_of(kafka: str, topic: str, partition: int = 0) -> list[Record]:
    """Every record that a partition holds."""

    async def work() -> list[Record]:
        where = TopicPartition(topic, partition)
        held: list[Record] = []
        async with AIOKafkaConsumer(bootstrap_servers=kafka) as consumer:
            consumer.assign([where])
            await consumer.seek_to_beginning(where)
            end = (await consumer.end_offsets([where]))[where]
            while end and (not held or held[-1].offset < end - 1):
                message = await asyncio.wait_for(consumer.getone(), 20)
                held.append(
                    Record(
                        Partition(topic, partition),
                        message.offset,
                        message.timestamp,
                        message.key,
                        message.value,
                        tuple(message.headers),
                    )
                )
        return held

    return asyncio.run(work())


def content(record: Record) -> tuple[object, ...]:
    return record.key, record.value, record.headers


def odd(topic: str, partition: int = 0) -> list[Record]:
    """Records that are not valid events, with keys, values and headers in each shape that Kafka has."""
    shapes: list[tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]] = [
        (None, None, ()),
        (b"", b"", (("z", b"1"), ("a", b""), ("z", None))),
        (None, b"plain", (("source", b"a.csv"), ("row", b"1"))),
        (b"\xff\x00", b"\xfe\r\n", (("\u00e9\n", b"\xff"),)),
        (b"k" * 100_000, b"\x00" * 600_000, ()),
    ]
    return [
        Record(Partition(topic, partition), 0, 1_767_225_600_000 + n, *each) for n, each in enumerate(shapes)
    ]


def put(s3: S3Client, bucket: str, record: Record, reason: str = "not JSON: x") -> str:
    key = event_key("dead-letters", record)
    s3.put_object(Bucket=bucket, Key=key, Body=DeadLetter(record, reason).body())
    return key


def command(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in this process: what it prints, and its exit code."""
    words = ["lakefeed-consumer", "dead-letters", *arguments]
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr("sys.argv", words)
        for name, value in settings.items():
            patch.setenv(name, value)
        code = cli.main()
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [orjson.loads(line) for line in done.stdout.splitlines()]


def offsets(dead_letters: dict[str, bytes]) -> list[int]:
    return sorted(DeadLetter.parse(body).record.offset for body in dead_letters.values())


def test_each_kind_of_record_is_stored_or_restored_from_its_dead_letter(
    kafka: str,
    topic: str,
    bucket: str,
    s3: S3Client,
    consumer_settings: Settings,
    tmp_path: Path,
) -> None:
    make_topic(kafka, topic, 1, LASTING)
    kinds = [Record(Partition(topic, 0), 0, k.timestamp_ms, k.key, k.value, k.headers) for k in KINDS]
    held = send(kafka, topic, kinds)
    assert log_of(kafka, topic) == held, "the broker has them as they are"
    consumer_settings["LAKEFEED_DEAD_LETTER_LIMIT"] = "1000"
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        wait_stored(consumer, len(KINDS))
        group = consumer_settings["LAKEFEED_CONSUMER_GROUP"]
        wait_for(
            lambda: committed(kafka, topic, group, 1) == {0: len(KINDS)}, 30, lambda: consumer.log, every=0.2
        )
    stored = objects(s3, bucket, "")
    for kind, record in zip(KINDS, held, strict=True):
        if kind.outcome == STORED:
            assert stored.pop(event_key("events", record)) == kind.value, kind.name
        else:
            dead_letter = DeadLetter.parse(stored.pop(event_key("dead-letters", record)))
            assert dead_letter.record == record, kind.name
            assert kind.outcome in dead_letter.reason, kind.name
    assert stored == {}


def test_a_broken_topic_stops_the_consumer_with_the_reason_and_loses_nothing(
    kafka: str,
    topic: str,
    bucket: str,
    s3: S3Client,
    consumer_settings: Settings,
    tmp_path: Path,
) -> None:
    make_topic(kafka, topic)
    held = publish(kafka, topic, [*events(10), *[b"broken"] * 60, *events(10)])
    consumer_settings["LAKEFEED_DEAD_LETTER_LIMIT"] = "20"
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        assert consumer.process.wait(60) == 1
    assert f"error: stopped because topic {topic} is broken: 21 of 31 events" in consumer.log
    assert "offset 30: not JSON" in consumer.log
    assert "Traceback" not in consumer.log
    dead_letters = objects(s3, bucket, "dead-letters/")
    assert sorted(DeadLetter.parse(body).record.offset for body in dead_letters.values()) == list(
        range(10, 30)
    )
    assert committed(kafka, topic, consumer_settings["LAKEFEED_CONSUMER_GROUP"], 1) == {0: 30}

    # It is no better after a restart: as many again, and it stops again.
    with Service("consumer", "run", log=tmp_path / "again", **consumer_settings) as consumer:
        assert consumer.process.wait(60) == 1
    assert "offset 50: not JSON" in consumer.log
    assert objects(s3, bucket, "dead-letters/").items() >= dead_letters.items()
    assert committed(kafka, topic, consumer_settings["LAKEFEED_CONSUMER_GROUP"], 1) == {0: 50}

    consumer_settings["LAKEFEED_DEAD_LETTER_LIMIT_SHARE"] = "1"
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        group = consumer_settings["LAKEFEED_CONSUMER_GROUP"]
        wait_for(lambda: committed(kafka, topic, group, 1) == {0: 80}, 60, lambda: consumer.log, every=0.2)
        assert consumer.stop() == 0
    dead_letters = objects(s3, bucket, "dead-letters/")
    assert sorted(DeadLetter.parse(body).record.offset for body in dead_letters.values()) == list(
        range(10, 70)
    )
    stored = objects(s3, bucket, "events/")
    assert sorted(stored.values()) == sorted(value for value in held.values() if value and value != b"broken")


def test_dead_letters_are_listed_and_shown(bucket: str, s3: S3Client, consumer_settings: Settings) -> None:
    first = Record(Partition("prices", 2), 7, 1_767_225_600_000, b"\xff", "né\x9b".encode(), (("h", None),))
    keys = [put(s3, bucket, first)]
    keys += [
        put(s3, bucket, Record(Partition("prices", 2), n, 1_767_312_000_000, None, None)) for n in (8, 9)
    ]
    keys += [put(s3, bucket, Record(Partition("trades", 0), 1, -1, None, b"x"), "conflict: y")]
    s3.put_object(Bucket=bucket, Key=keys[1], Body=b"\x1b[31mspoilt")

    every = lines(command(consumer_settings, "list", "--json"))
    assert [each["key"] for each in every] == keys
    assert [each["damaged"] for each in every] == [False, True, False, False]
    assert every[0] == {
        "key": keys[0],
        "topic": "prices",
        "day": "2026-01-01",
        "partition": 2,
        "offset": 7,
        "replayed": False,
        "records": 1,
        "reason": "not JSON: x",
        "damaged": False,
    }
    for options, offsets in {
        ("--topic", "prices"): [7, 8, 9],
        ("--day", "2026-01-02"): [8, 9],
        ("--since", "2026-01-01"): [7, 8, 9],
        ("--reason", "CONFLICT"): [1],
        ("--topic", "trades", "--reason", "json"): [],
    }.items():
        assert [
            each["offset"] for each in lines(command(consumer_settings, "list", "--json", *options))
        ] == offsets

    table = command(consumer_settings, "list")
    assert table.returncode == 0
    assert all(text in table.stdout for text in ("prices", "2026-01-02", "damaged: ", "conflict: y"))
    assert "\x1b" not in table.stdout

    shown = command(consumer_settings, "show", "prices/2/7")
    assert "\x9b" not in shown.stdout
    assert orjson.loads(shown.stdout) == {
        "object": keys[0],
        "replayed": None,
        "topic": "prices",
        "partition": 2,
        "offset": 7,
        "timestamp_ms": 1_767_225_600_000,
        "reason": "not JSON: x",
        "key_base64": "/w==",
        "headers": [{"name": "h", "value": None}],
        "value": "né\x9b",
    }
    assert orjson.loads(command(consumer_settings, "show", keys[3]).stdout)["value"] == "x"
    damaged = command(consumer_settings, "show", keys[1])
    assert damaged.returncode == 1
    assert f"{keys[1]}: damaged: " in damaged.stderr


def test_a_replay_sends_the_original_records_to_their_topic_and_marks_them(
    kafka: str,
    topic: str,
    bucket: str,
    s3: S3Client,
    consumer_settings: Settings,
    tmp_path: Path,
) -> None:
    make_topic(kafka, topic, 2, LASTING)
    held = [*send(kafka, topic, odd(topic)), *send(kafka, topic, odd(topic, partition=1))]
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        wait_stored(consumer, len(held))
        assert consumer.stop() == 0
    dead_letters = objects(s3, bucket, "dead-letters/")

    dry = lines(command(consumer_settings, "replay", "--topic", topic, "--dry-run"))
    assert [(each["partition"], each["offset"], each["to"]) for each in dry] == [
        (record.partition.number, record.offset, topic) for record in held
    ]
    assert len(log_of(kafka, topic)) == 5
    assert objects(s3, bucket, "dead-letters/") == dead_letters

    began = int(time.time())
    done = command(consumer_settings, "replay", "--topic", topic)
    assert done.returncode == 0, done.stderr
    assert f"{event_key('dead-letters', held[0])} -> {topic}/0/5" in done.stdout
    assert "dead letters: 10 sent" in done.stderr
    assert "hint: " in done.stderr
    for partition in (0, 1):
        log = log_of(kafka, topic, partition)
        assert min(record.timestamp_ms for record in log[5:]) >= began * 1000, "retention counts from now"
        assert [content(record) for record in log[5:]] == [content(record) for record in log[:5]]
    assert all(each["replayed"] for each in lines(command(consumer_settings, "list", "--json")))
    note = orjson.loads(command(consumer_settings, "show", f"{topic}/1/0").stdout)["replayed"]
    assert (note["topic"], note["partition"], note["offset"]) == (topic, 1, 5)
    assert objects(s3, bucket, "dead-letters/").items() >= dead_letters.items()

    done = command(consumer_settings, "replay", "--topic", topic)
    assert done.returncode == 0
    assert "10 already replayed" in done.stderr
    done = command(consumer_settings, "replay", f"{topic}/0/2", "--again")
    assert done.stdout == f"{event_key('dead-letters', held[2])} -> {topic}/0/10\n"
    assert content(log_of(kafka, topic)[10]) == content(held[2])


def test_a_conflict_is_an_event_again_after_its_replay_to_another_topic(
    kafka: str,
    topic: str,
    bucket: str,
    s3: S3Client,
    consumer_settings: Settings,
    tmp_path: Path,
) -> None:
    make_topic(kafka, topic)
    make_topic(kafka, f"{topic}-new")
    record = Record(Partition(topic, 7), 3, 1_767_225_600_000, b"k", b'{"n":1}', (("row", b"1"),))
    put(s3, bucket, record, reason="conflict: events/… holds another body")
    done = command(consumer_settings, "replay", "--reason", "conflict", "--to", f"{topic}-new")
    assert done.returncode == 0, done.stderr
    assert f"-> {topic}-new/0/0\n" in done.stdout, "there is no partition 7"
    assert "hint" not in done.stderr
    consumer_settings["LAKEFEED_TOPIC"] = f"{topic}-new"
    with Service("consumer", "run", log=tmp_path / "log", **consumer_settings) as consumer:
        wait_stored(consumer, 1)
    assert list(objects(s3, bucket, "events/").values()) == [b'{"n":1}']
    assert [content(each) for each in log_of(kafka, f"{topic}-new")] == [content(record)]


def test_a_batch_that_conflicts_is_shown_and_replayed_event_by_event(
    kafka: str, topic: str, bucket: str, s3: S3Client, consumer_settings: Settings
) -> None:
    make_topic(kafka, f"{topic}-new")
    records = some_records(range(3, 23), topic=topic)
    lines_of = [to_line(record, record.value or b"") for record in records]
    kept = Batch(records[0].partition, 3, 23, records[0], lines_of, (), (), conflict=True)
    empty = Batch(Partition(topic, 1), 3, 23, records[0], (), (), (), conflict=True)
    for batch, first in ((kept, records[0]), (empty, records[1]._replace(partition=Partition(topic, 1)))):
        body, metadata = batch.encode()
        key = replace(batch, first=first).key("batches", "dead-letters")
        s3.put_object(Bucket=bucket, Key=key, Body=body, Metadata=metadata.to_dict())
    listed = lines(command(consumer_settings, "list", "--json", "--reason", "conflict"))
    assert [(each["records"], each["offset"], each["damaged"]) for each in listed] == [
        (20, 3, False),
        (0, 3, False),
    ]
    shown = command(consumer_settings, "show", f"{topic}/0/3")
    assert shown.stdout.count('"object"') == len(records), shown.stderr
    preview = lines(
        command(consumer_settings, "replay", "--topic", topic, "--to", f"{topic}-new", "--dry-run")
    )
    assert [each["offset"] for each in preview] == [record.offset for record in records]
    done = command(consumer_settings, "replay", "--reason", "conflict", "--to", f"{topic}-new")
    assert done.returncode == 0, done.stderr
    assert f"-> {topic}-new/0/19 (the last of 20 records)\n" in done.stdout
    assert "1 batches without events, 1 sent" in done.stderr
    assert [content(each) for each in log_of(kafka, f"{topic}-new")] == [content(each) for each in records]
    again = command(consumer_settings, "replay", "--reason", "conflict", "--to", f"{topic}-new")
    assert "1 already replayed" in again.stderr


def test_what_cannot_be_sent_is_reported_and_the_others_are_sent(
    kafka: str,
    topic: str,
    bucket: str,
    s3: S3Client,
    consumer_settings: Settings,
) -> None:
    make_topic(kafka, topic, 1, {**LASTING, "max.message.bytes": "1000", "cleanup.policy": "compact"})
    keyed = [(b"k", b"1"), (b"k", b"x" * 5000), (b"k", b"2"), (None, b"3"), (b"k", b"4"), (b"k", b"5")]
    keys = [
        put(s3, bucket, Record(Partition(topic, 0), n, 1_767_225_600_000, key, value))
        for n, (key, value) in enumerate(keyed)
    ]
    s3.put_object(Bucket=bucket, Key=keys[4], Body=b"spoilt")
    done = command(consumer_settings, "replay", "--topic", topic)
    assert done.returncode == 3, done.stderr
    assert f"{keys[1]} was not sent: topic {topic} at {kafka} rejects it" in done.stderr
    assert f"{keys[3]} was not sent: topic {topic} at {kafka} rejects it" in done.stderr
    assert f"{keys[4]} was not sent: damaged: " in done.stderr
    assert "3 sent, 3 not sent" in done.stderr
    assert [record.value for record in log_of(kafka, topic)] == [b"1", b"2", b"5"]
    replayed = [each["replayed"] for each in lines(command(consumer_settings, "list", "--json"))]
    assert replayed == [True, False, True, False, False, True]


# The command, killed when it marks the 60th dead letter as replayed.
DIES = """
import os, signal, sys
from lakefeed_consumer import cli
from lakefeed_consumer.dead_letters.archive import Archive
mark, left = Archive.mark_replayed, iter(range(59))
async def dies(self, location, position):
    if next(left, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    await mark(self, location, position)
Archive.mark_replayed = dies
del sys.argv[0]
sys.exit(cli.main())
"""


def test_a_replay_that_is_killed_is_finished_by_the_next_one(
    kafka: str,
    topic: str,
    bucket: str,
    s3: S3Client,
    consumer_settings: Settings,
) -> None:
    make_topic(kafka, topic)
    records = [Record(Partition(topic, 0), n, 1_767_225_600_000, None, str(n).encode()) for n in range(120)]
    for record in records:
        put(s3, bucket, record)
    program = [sys.executable, "-c", DIES, "lakefeed-consumer", "dead-letters", "replay", "--topic", topic]
    died = subprocess.run(
        program, env={**os.environ, **consumer_settings}, stdout=subprocess.DEVNULL, timeout=120, check=False
    )
    assert died.returncode == -signal.SIGKILL
    first = [int(record.value or b"") for record in log_of(kafka, topic)]
    assert 0 < len(first) < 120
    done = command(consumer_settings, "replay", "--topic", topic)
    assert done.returncode == 0, done.stderr
    values = [int(record.value or b"") for record in log_of(kafka, topic)]
    assert sorted(set(values)) == list(range(120)), "each at least once"
    assert len(values) <= 170, "only what was in flight is sent twice"
    assert len(objects(s3, bucket, "dead-letters/")) == 240


def test_an_error_is_one_line(
    kafka: str,
    topic: str,
    bucket: str,
    s3: S3Client,
    consumer_settings: Settings,
    tmp_path: Path,
) -> None:
    put(s3, bucket, Record(Partition(topic, 0), 1, 1_767_225_600_000, None, b"x"))

    def complaint(*arguments: str, code: int = 1, changed: Settings | None = None) -> str:
        done = command({**consumer_settings, **(changed or {})}, *arguments)
        assert done.returncode == code, done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        return done.stderr

    for every in (["list"], ["show", f"{topic}/0/1"], ["replay", "--topic", topic]):
        text = complaint(*every, changed={"LAKEFEED_BUCKET": "missing-bucket"})
        assert text.startswith("error: bucket missing-bucket")
        assert "there is no such bucket" in text
        text = complaint(*every, changed={"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"})
        assert "no answer (" in text
    no_keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": str(tmp_path)}
    assert complaint("list", changed=no_keys).startswith("error: there are no AWS credentials")
    assert complaint("show", "missing/0/1").startswith("error: there is no dead letter missing/0/1.")
    assert complaint("replay", "missing/0/1").startswith("error: there is no dead letter missing/0/1.")
    assert "is not the name of a dead letter" in complaint("show", "what")
    assert f"there is no topic {topic}" in complaint("replay", "--topic", topic)
    away = f"127.0.0.1:{free_port()}"
    text = complaint("replay", "--topic", topic, changed={"LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": away})
    assert away in text
    assert text.count("\n") == 1
    assert "give dead letters" in complaint("replay", code=2)
    assert "give either" in complaint("replay", "t/0/1", "--topic", "t", code=2)
    assert "2026-13-01" in complaint("list", "--day", "2026-13-01", code=2)
    assert complaint("list", "--topic", "missing", code=0).startswith("no such dead letter under s3://")
    assert "none selected" in complaint("replay", "--topic", "missing", code=0)
