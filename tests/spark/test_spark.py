"""`spark/compact.py` on Spark in local mode: each event once, whatever is killed or late."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from lakefeed_analytics.iceberg.parts import connect
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common.settings import load
from tests.helpers.analytics.batches import put_batch, put_events, record
from tests.helpers.athena import rows
from tests.helpers.faulty_aws import Answer, Call, FaultyAws, Forward, Gate

if TYPE_CHECKING:
    from mypy_boto3_athena import AthenaClient
    from mypy_boto3_glue import GlueClient
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.timeout(1200)

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 600
PARTITIONS, BATCHES, BATCH_EVENTS, SINGLE_EVENTS = 3, 4, 5_000, 40


def event(offset: int, **more: Any) -> bytes:
    """An event that hardly compresses, so that few of them fill a data file."""
    noise = random.Random(offset).randbytes(96).hex()
    return orjson.dumps(
        {"ticker": f"T{offset % 7}", "close": offset + 0.5, "volume": offset, "n": noise, **more}
    )


@dataclass
class Lake:
    """A topic whose events are stored, and the offsets that its consumer group has committed."""

    s3: S3Client
    athena: AthenaClient
    bucket: str
    topic: str
    bootstrap_servers: str
    settings: CompactSettings

    def __post_init__(self) -> None:
        self.ends = [0] * PARTITIONS

    def store_events(self, partition: int, count: int) -> None:
        """Store one object per event."""
        start = self.ends[partition]
        self.ends[partition] += count
        put_events(
            self.s3,
            self.bucket,
            [record(self.topic, partition, each, event(each)) for each in range(start, self.ends[partition])],
        )

    def store_batch(self, partition: int, **more: Any) -> str:
        """Store a batch; its key."""
        start = self.ends[partition]
        self.ends[partition] += BATCH_EVENTS
        offsets = range(start, self.ends[partition])
        records = [record(self.topic, partition, each, event(each, **more)) for each in offsets]
        return put_batch(self.s3, self.bucket, records, start, self.ends[partition])

    def fill(self, **more: Any) -> None:
        """Store batches in all partitions, and commit their offsets."""
        for partition in range(PARTITIONS):
            for _ in range(BATCHES):
                self.store_batch(partition, **more)
        self.commit()

    def commit(self) -> None:
        """Commit the offsets of everything that is stored."""
        member = Consumer({"bootstrap.servers": self.bootstrap_servers, "group.id": f"group-{self.topic}"})
        ends = [TopicPartition(self.topic, number, end) for number, end in enumerate(self.ends)]
        try:
            member.commit(offsets=ends, asynchronous=False)
        finally:
            member.close()

    def in_the_table(self) -> list[tuple[float, ...]]:
        """Of each partition in Athena: rows, different offsets, first and last offset, sum of `close`."""
        table = self.settings.iceberg_table(self.topic)
        sql = (
            "SELECT count(*), count(DISTINCT kafka_offset), min(kafka_offset), max(kafka_offset), "  # noqa: S608
            f"sum(close) FROM {table} GROUP BY kafka_partition ORDER BY kafka_partition"
        )
        found = rows(self.athena, self.bucket, sql, "lakefeed")
        return [tuple(float(each or "nan") for each in row) for row in found]

    def each_once(self) -> list[tuple[float, ...]]:
        """The same if each stored event is in the table once."""
        return [(end, end, 0, end - 1, sum(range(end)) + end / 2) for end in self.ends]

    def columns(self) -> dict[str, str]:
        """The table's columns and their types."""
        with connect(self.settings, self.topic) as parts:
            state = parts.table.load()
            assert state is not None
            return {name: str(kind) for name, kind in state.columns.items()}


@pytest.fixture
def lake(
    s3: S3Client,
    athena: AthenaClient,
    glue: GlueClient,
    kafka: str,
    bucket: str,
    topic: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Lake:
    """40 one-event objects, then 12 batches, with a table of several data files for each commit."""
    glue.create_database(DatabaseInput={"Name": "lakefeed"})
    variables = {
        "LAKEFEED_BUCKET": bucket,
        "LAKEFEED_TOPIC": topic,
        "LAKEFEED_CONSUMER_GROUP": f"group-{topic}",
        "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "LAKEFEED_COMPACT_FILE_BYTES": "1000000",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(60)
    made = Lake(s3, athena, bucket, topic, kafka, load(CompactSettings))
    # The layout of a partition changed.
    made.store_events(0, SINGLE_EVENTS)
    made.fill()
    return made


@contextmanager
def started(command: Sequence[str], **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A program with its children in a process group of their own, which is killed at the end."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYSPARK_PYTHON": f"{os.environ['SPARK_ENVIRONMENT']}/bin/python", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill(process)
        process.communicate()


def kill(process: subprocess.Popen[str]) -> None:
    """Kill driver, executors and the JVM at once."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def spark(*arguments: str) -> list[str]:
    """The command line of the job."""
    submit = str(Path(os.environ["SPARK_ENVIRONMENT"]) / "bin" / "spark-submit")
    options = ["--master", "local[2]", "--conf", "spark.ui.enabled=false"]
    return [submit, *options, "spark/compact.py", *arguments]


COMPACTOR = [sys.executable, "-m", "lakefeed_analytics", "compact"]


class Held(FaultyAws):
    """An AWS where the first commit waits until it is released."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.commit = Gate(SECONDS)
        self.once("UpdateTable", self.commit)

    def release(self) -> None:
        """Pass the commit on, and wait for its answer."""
        self.commit.release()
        self.commit.wait_answered()


def done(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    """Wait for a program; its output and what it logged."""
    output, log = process.communicate(timeout=SECONDS)
    assert process.returncode == code, f"{output}\n{log}"
    print(output, end="")
    return output, log


@pytest.mark.parametrize("arrives", [False, True], ids=["never arrives", "arrives"])
def test_a_driver_that_is_killed_at_its_commit_leaves_each_event_once(
    lake: Lake, aws: str, arrives: bool
) -> None:
    with FaultyAws(aws) as proxy:
        running: list[subprocess.Popen[str]] = []

        def killed(_: Call, forward: Forward) -> Answer | None:
            answer = forward() if arrives else None
            kill(running[0])
            return answer

        proxy.once("UpdateTable", killed)
        with started(spark(), AWS_ENDPOINT_URL=proxy.url) as process:
            running.append(process)
            done(process, -signal.SIGKILL)
        assert len(proxy.made("UpdateTable")) == 1
    assert lake.in_the_table() == (lake.each_once() if arrives else [])

    with started(spark()) as process:
        output, _ = done(process)
    count = 0 if arrives else sum(lake.ends)
    assert f": {count} rows in " in output
    assert arrives or " rows in 1 files" not in output, "several tasks write"
    assert lake.in_the_table() == lake.each_once()


@pytest.mark.parametrize("late", ["spark", "compactor"])
def test_next_to_a_compactor_each_event_is_added_once(lake: Lake, aws: str, late: str) -> None:
    """Both have written their files, and one commits before the other."""
    with started(COMPACTOR) as process:
        done(process)
    lake.fill(venue="XETR")
    with (
        Held(aws) as at_spark,
        started(spark(), AWS_ENDPOINT_URL=at_spark.url) as on_spark,
        Held(aws) as at_compactor,
    ):
        at_spark.commit.wait()
        with started(COMPACTOR, AWS_ENDPOINT_URL=at_compactor.url) as compactor:
            at_compactor.commit.wait()
            both = [(at_spark, on_spark), (at_compactor, compactor)]
            (held, process), (held_back, late_process) = both if late == "compactor" else both[::-1]
            held.release()
            held_back.release()
            assert f": {PARTITIONS * BATCHES * BATCH_EVENTS} rows in " in done(process)[0]
            assert ": 0 rows in " in done(late_process)[0]
    assert lake.in_the_table() == lake.each_once()
    assert lake.columns()["venue"] == "string"


def test_columns_are_those_of_all_tasks_and_a_rebuild_widens_them(lake: Lake) -> None:
    with started(spark()) as process:
        done(process)
    lake.store_batch(0, size=1)
    lake.store_batch(1, size=1.5)
    lake.store_batch(2, volume="n/a")
    lake.commit()
    with started(spark()) as process:
        output, _ = done(process)
    assert f"; {BATCH_EVENTS} rows have values that do not fit" in output
    assert (lake.columns()["size"], lake.columns()["volume"]) == ("double", "long")

    with started(spark("--command", "rebuild")) as process:
        output, _ = done(process)
    assert "volume: long → string" in output
    assert lake.columns()["volume"] == "string"
    assert lake.in_the_table() == lake.each_once()


def test_a_damaged_batch_is_named_and_nothing_of_its_commit_is_added(lake: Lake) -> None:
    with started(COMPACTOR) as process:
        done(process)
    before = lake.in_the_table()
    key = lake.store_batch(1)
    metadata = lake.s3.head_object(Bucket=lake.bucket, Key=key)["Metadata"]
    lake.s3.put_object(Bucket=lake.bucket, Key=key, Body=b"x", Metadata=metadata)
    lake.commit()
    with started(spark("--LAKEFEED_LOG_LEVEL", "WARNING", "--JOB_NAME", "of Glue")) as process:
        # spark-submit passes on what the driver writes to stderr as output.
        output, _ = done(process, 1)
    assert f"{key}: damaged" in output
    assert lake.in_the_table() == before
