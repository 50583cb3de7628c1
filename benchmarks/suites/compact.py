"""Measures a compaction of batch objects into an Iceberg table of the local AWS.

Rows per second of one core: the CPU of the compaction alone, with all its threads. The local AWS, which runs
in another process on the same machine, is not part of it.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import closing
from functools import partial
from unittest import mock

import boto3

from benchmarks.figures import Figure, Result, Target
from benchmarks.stores import BUCKET
from benchmarks.suite import Bench, Suite
from lakefeed_analytics.iceberg.compact import Done
from lakefeed_analytics.iceberg.parts import connect
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common.lake.records import Partition, Record
from lakefeed_local.aws import LocalAws
from tests.helpers.lake_objects import batch

_REGION = "us-east-1"
_KEY = "test"
_NOW_MS = 1_790_000_000_000
_BATCH_ROWS = 10_000
_ROWS = 500_000
_QUICK_ROWS = 20_000
# A round takes some seconds, and the speed of a shared machine varies.
_ROUNDS = 9


def run(bench: Bench) -> Result:
    """Measure compactions, each into a table of its own."""
    rows = bench.size(_ROWS, _QUICK_ROWS)
    with LocalAws(bench.folder / "aws") as aws:
        environment = {
            "AWS_ENDPOINT_URL": aws.endpoint_url,
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _KEY,
            "AWS_REGION": _REGION,
        }
        with mock.patch.dict(os.environ, environment):
            size = _store(aws.endpoint_url, rows + _BATCH_ROWS)
            bench.say(f"{rows:,} rows are stored, {size / rows:.0f} B each in a batch")
            found = bench.rounds(_ROUNDS, {"compact": partial(_compact, rows)})["compact"]
    cpu = tuple(rows / used for used, _ in found)
    wall = tuple(rows / took for _, took in found)
    return Result(
        [
            Figure(
                "rows_per_second", "rows per second of one core", cpu, "rows/s", Target("at least", 250_000)
            ),
            Figure("rows_per_second_of_wall", "rows per second, with the local AWS", wall, "rows/s"),
        ],
        (f"{rows:,} rows of 200 B in batches of {_BATCH_ROWS:,}, gzip; Parquet with zstd.",),
    )


def _compact(rows: int) -> tuple[float, float]:
    """Compact into a table that exists; seconds of CPU and of the clock."""
    topic = "bench"
    settings = CompactSettings(bucket=BUCKET, topic=topic, glue_database=f"bench_{time.monotonic_ns()}")
    with closing(_session().client("glue", endpoint_url=os.environ["AWS_ENDPOINT_URL"])) as glue:
        glue.create_database(DatabaseInput={"Name": settings.glue_database})
    with connect(settings, topic) as parts:
        # The first compaction also reads the types of all columns.
        parts.compactor.run({0: _BATCH_ROWS}, lambda _: None, Done(), {})
        done = Done()
        used, began = time.process_time(), time.monotonic()
        parts.compactor.run({0: rows + _BATCH_ROWS}, lambda _: None, done, {})
        found = time.process_time() - used, time.monotonic() - began
    if done.rows != rows:
        raise RuntimeError(f"{done.rows} rows were added instead of {rows}")
    return found


def _store(endpoint_url: str, rows: int) -> int:
    """Store batches of one partition; their size."""
    chance = random.Random(1)  # noqa: S311 - data for a measurement
    size = 0
    with closing(_session().client("s3", endpoint_url=endpoint_url)) as s3:
        s3.create_bucket(Bucket=BUCKET)
        for start in range(0, rows, _BATCH_ROWS):
            records = [_record(chance, offset) for offset in range(start, start + _BATCH_ROWS)]
            stored = batch(records)
            s3.put_object(Bucket=BUCKET, Key=stored.key, Body=stored.body, Metadata=stored.metadata)
            size += len(stored.body)
    return size


def _record(chance: random.Random, offset: int) -> Record:
    close = chance.random() * 100
    value = (
        f'{{"date":"2017-01-{chance.randrange(1, 29):02d}","ticker":"T{chance.randrange(99):02d}",'
        f'"open":{close + 1:.2f},"high":{close + 2:.2f},"low":{close - 1:.2f},"close":{close:.2f},'
        f'"volume":{chance.randrange(10**7)},"note":"{chance.getrandbits(240):060x}"}}'
    )
    return Record(Partition("bench", 0), offset, _NOW_MS, b"T", value.encode())


def _session() -> boto3.Session:
    return boto3.Session(_KEY, _KEY, region_name=_REGION)


SUITE = Suite("Compaction into an Iceberg table", run)
