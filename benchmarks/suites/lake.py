"""Measures how long after its append an event is in a batch object, and in the Iceberg table.

Consumer and compactor have the settings of `docker compose`. Keys of batches and the table's watermark are
read several times a second while events arrive: figures are too large by up to that interval. The broker sets
the timestamp of each record when it appends it.
"""

from __future__ import annotations

import sys
import time
import uuid
from bisect import bisect_right
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from unittest import mock

from benchmarks.figures import Figure, Result, Target, percentile
from benchmarks.stores import BUCKET
from benchmarks.suite import Bench, Suite
from benchmarks.topics import EVENT_BYTES, append_times, events, fill, fill_at, topic
from benchmarks.workers import LAKEFEED, Workers, without_aws
from lakefeed_analytics.iceberg.parts import connect
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common import aws
from lakefeed_common.lake.keys import ObjectKey
from lakefeed_local.aws import LocalAws
from tests.helpers.seaweed import access
from tests.helpers.waiting import wait_for

_COMPACT = (str(Path(sys.executable).with_name("lakefeed-analytics")), "compact", "--every")
_RATE = 1_000.0
_LOOK_SECONDS = 0.2
_LIMIT_SECONDS = 300.0
_PUT_DOLLARS = 5 / 1e6


def run(bench: Bench) -> Result:
    """Measure both at one rate."""
    seconds, every, linger = bench.size((150, "1m", 10), (10, "2s", 1))
    bodies = events(int(_RATE * seconds))
    with ExitStack() as held:
        broker = held.enter_context(bench.broker()).bootstrap_servers
        server = held.enter_context(LocalAws(bench.folder / "aws"))
        name = held.enter_context(topic(broker, "lake", 1, {"message.timestamp.type": "LogAppendTime"}))
        environment = {
            **access(server.endpoint_url),
            "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": broker,
            "LAKEFEED_TOPIC": name,
            "LAKEFEED_BUCKET": BUCKET,
            "LAKEFEED_CONSUMER_GROUP": f"bench-{uuid.uuid4().hex[:8]}",
            "LAKEFEED_LAYOUT": "batches",
            "LAKEFEED_BATCH_LINGER_SECONDS": str(linger),
        }
        held.enter_context(mock.patch.dict("os.environ", without_aws() | environment, clear=True))
        lake = held.enter_context(closing(_Lake(name)))
        consumer = Workers(LAKEFEED, 1, environment, bench.folder / "consumer.log")
        compactor = Workers((*_COMPACT, every), 1, environment, bench.folder / "compactor.log")
        # The group has settled, and the table is there, before what is counted.
        fill(broker, name, 1, events(1))
        held.enter_context(consumer)
        lake.look_until(lambda: bool(lake.batches), consumer)
        held.enter_context(compactor)
        lake.look_until(lambda: bool(lake.marks), consumer, compactor)
        bench.say(f"{len(bodies):,} events at {_RATE:,.0f}/s")
        with ThreadPoolExecutor(1) as pool:
            filling = pool.submit(fill_at, broker, name, bodies, _RATE)
            lake.look_until(lambda: lake.table_has(len(bodies)), consumer, compactor)
            filling.result()
        appended = append_times(broker, name, 1 + len(bodies))
    del appended[0]  # the one before all
    stored = [lake.stored_at(offset) - at / 1e3 for offset, at in appended.items()]
    readable = [lake.readable_at(offset) - at / 1e3 for offset, at in appended.items()]
    dollars = sum(start > 0 for start in lake.batches) * _PUT_DOLLARS / len(bodies) * 1e6
    return Result(
        [
            *_figures("batch", "append → batch object", stored, Target("at most", linger + 1)),
            *_figures("table", "append → row of the Iceberg table", readable, Target("at most", 120)),
            Figure(
                "put_dollars",
                "puts of batches for a million events",
                (dollars,),
                "$",
                Target("at most", 0.05),
            ),
        ],
        (
            f"One worker, 1 partition, {_RATE:,.0f} events/s of {EVENT_BYTES} bytes for {seconds} s; the "
            f"local AWS. A batch ends after {linger} s, a compaction begins every {every}; looked every "
            f"{_LOOK_SECONDS:g} s.",
        ),
    )


def _figures(key: str, what: str, seconds: list[float], target: Target) -> list[Figure]:
    values = {"p50": percentile(seconds, 0.5), "p99": percentile(seconds, 0.99), "max": max(seconds)}
    return [
        Figure(f"{key}_{name}_seconds", f"{what}, {name}", (value,), "s", target if name == "p99" else None)
        for name, value in values.items()
    ]


class _Lake:
    """When batches of a topic appeared in the bucket, and rows in its Iceberg table, by this machine's clock.

    Attributes:
        batches: seconds since 1970 by start offset.
        marks: the same by the offset below which everything is in the table.
    """

    def __init__(self, name: str) -> None:
        settings = CompactSettings()
        self.batches: dict[int, float] = {}
        self.marks: dict[int, float] = {}
        self._prefix = settings.batches_prefix
        self._held = ExitStack()
        self._s3 = self._held.enter_context(closing(aws.client("s3", settings)))
        self._s3.create_bucket(Bucket=BUCKET)
        with closing(aws.client("glue", settings)) as glue:
            glue.create_database(DatabaseInput={"Name": settings.glue_database})
        self._table = self._held.enter_context(connect(settings, name)).compactor

    def close(self) -> None:
        self._held.close()

    def look_until(self, done: Callable[[], bool], *running: Workers) -> None:
        """Look, until something is there."""

        def looked() -> bool:
            for each in running:
                each.check()
            self._look()
            return done()

        wait_for(looked, _LIMIT_SECONDS, "the events did not come", every=_LOOK_SECONDS)

    def _look(self) -> None:
        found = self._s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{self._prefix}/").get("Contents", [])
        for each in found:
            key = ObjectKey.parse(self._prefix, each["Key"])
            if key is not None:
                self.batches.setdefault(key.offset, time.time())
        for mark in self._table.watermarks().values():
            self.marks.setdefault(mark.offset, time.time())

    def table_has(self, offset: int) -> bool:
        """Whether a record is in the table."""
        return any(mark > offset for mark in self.marks)

    def stored_at(self, offset: int) -> float:
        """When the batch of a record was there."""
        starts = sorted(self.batches)
        return self.batches[starts[bisect_right(starts, offset) - 1]]

    def readable_at(self, offset: int) -> float:
        """When the row of a record was there."""
        return min(at for mark, at in self.marks.items() if mark > offset)


SUITE = Suite("Batches and tables: from the append to the query", run)
