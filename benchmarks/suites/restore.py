"""Measures records/s from batch objects in S3 to Kafka, by the whole command `restore`.

With acks=all and idempotence, as always. A local SeaweedFS serves the objects; broker, S3 server and command
share the machine. Each time, the topic is checked to contain every record.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from benchmarks.figures import Figure, Result, Target
from benchmarks.stores import BUCKET
from benchmarks.suite import Bench, Suite
from benchmarks.topics import held, topic
from benchmarks.workers import without_aws
from lakefeed_common.lake.records import Partition, Record
from tests.helpers.lake_objects import Stored, batch
from tests.helpers.seaweed import SeaweedS3, access

_ROUNDS = 3
_BATCH = 50_000
_START_MS = 1_767_225_600_000
_EVENT_BYTES = 200
# Each run leaves one marker in each partition.
_MARKERS = 1


class Restored(NamedTuple):
    """One command: records, the seconds they took, CPU seconds of the whole command."""

    records: int
    seconds: float
    cpu_seconds: float


def run(bench: Bench) -> Result:
    """Measure the command with one partition and with four."""
    count = bench.size(2_000_000, 40_000)
    bench.folder.mkdir(parents=True, exist_ok=True)
    with SeaweedS3(bench.folder / "seaweed") as server:
        client = server.client()
        client.create_bucket(Bucket=BUCKET)
        for name, partitions in (("one", 1), ("four", 4)):
            bench.say(f"storing {count:,} records in batches of {partitions} partitions")
            for number in range(partitions):
                for each in _batches(name, number, count // partitions):
                    client.put_object(Bucket=BUCKET, Key=each.key, Body=each.body, Metadata=each.metadata)
        client.close()
        with bench.broker() as running:
            cases = {
                name: partial(_restore, bench, running.bootstrap_servers, server, name, partitions, count)
                for name, partitions in (("one", 1), ("four", 4))
            }
            found = bench.rounds(_ROUNDS, cases)
    return Result(_figures(found), (f"{count:,} records of {_EVENT_BYTES} bytes with three headers.",))


def _batches(topic_name: str, partition: int, count: int) -> Iterator[Stored]:
    """Each batch, as the consumer stores it."""
    records = _records(topic_name, partition, count)
    while some := list(islice(records, _BATCH)):
        yield batch(some)


def _records(topic_name: str, partition: int, count: int) -> Iterator[Record]:
    """Records as the producer publishes them."""
    where = Partition(topic_name, partition)
    head = '{"id":1%09d,"ticker":"AAPL","price":1%08.3f,"day":"2013-03-01","note":"'
    for row in range(count):
        begin = (head % (row, row % 10_000 / 7)).encode()
        value = begin + b"x" * (_EVENT_BYTES - len(begin) - 2) + b'"}'
        headers = (
            ("source", b"prices.csv"),
            ("publication", b"0123456789abcdef.1.1767225600000"),
            ("row", b"%d" % (row + 1)),
        )
        yield Record(where, row, _START_MS + row // 100, None, value, headers)


def _restore(
    bench: Bench, broker: str, server: SeaweedS3, name: str, partitions: int, count: int
) -> Restored:
    variables = {**without_aws(), **access(server.endpoint_url)}
    # Modules are compiled once, as in the image, not at each start.
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    with topic(broker, "back", partitions, {"retention.ms": "-1"}) as target:
        command = (
            *(str(Path(sys.executable).with_name("lakefeed-producer")), "restore"),
            *(f"s3://{BUCKET}/batches/{name}", "--to", target, "--kafka-bootstrap-servers", broker),
            *("--offset-map", str(bench.folder / f"{target}.jsonl")),
        )
        before = _children_cpu()
        began = time.monotonic()
        with (bench.folder / "commands.log").open("ab") as log:
            subprocess.run(command, env=variables, stdin=subprocess.DEVNULL, stderr=log, check=True)
        seconds = time.monotonic() - began
        cpu = _children_cpu() - before
        there = held(broker, target) - _MARKERS * partitions
    if there != count:
        raise RuntimeError(f"{there} of {count} records were restored; see {bench.folder / 'commands.log'}")
    return Restored(count, seconds, cpu)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _figures(found: dict[str, list[Restored]]) -> list[Figure]:
    def rates(name: str) -> tuple[float, ...]:
        return tuple(one.records / one.seconds for one in found[name])

    cpu = tuple(one.cpu_seconds / one.records * 1e6 for one in found["four"])
    return [
        Figure(
            "rows_per_second",
            "records/s from batch objects to a topic of four partitions",
            rates("four"),
            "/s",
            Target("at least", 300_000),
        ),
        Figure("rows_per_second_one_partition", "records/s, one partition", rates("one"), "/s"),
        Figure("cpu_us", "CPU per record of the command, four partitions", cpu, "µs"),
    ]


SUITE = Suite("Restore: from batch objects to Kafka", run)
