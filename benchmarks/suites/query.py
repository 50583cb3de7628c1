"""Measures queries and crawls of the local AWS with increasing numbers of objects.

The local AWS runs S3, Athena (DuckDB) and crawls on this machine. The figures show how the cost grows with
the number of objects, not how long AWS takes. One topic grows from size to size, so the sizes cannot be
measured in turns. More objects mean fewer rounds: with 50,000, a query takes minutes on a busy machine, and
creating them, which is not measured, even longer. Each crawl reads everything, so later ones are not faster.
At the largest size the same events are stored as batches and compacted into an Iceberg table as well, and the
query is asked of all three in turns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from unittest import mock

import boto3
import obstore
from obstore.store import S3Store

from benchmarks.figures import Figure, Result, Target, ratio
from benchmarks.stores import BUCKET
from benchmarks.suite import Bench, Suite
from benchmarks.topics import events
from lakefeed_analytics.athena import AthenaQueries, wait_for_query
from lakefeed_analytics.crawl import GlueCrawler, wait_for_crawl
from lakefeed_analytics.ensure import Ensurer
from lakefeed_analytics.iceberg.compact import Done
from lakefeed_analytics.iceberg.parts import connect
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common.lake.keys import event_key
from lakefeed_common.lake.records import Partition, Record
from lakefeed_local.aws import LocalAws
from tests.helpers.lake_objects import batch

_TOPIC = "bench"
# A topic of its own, since the events of both layouts become one Iceberg table.
_BATCHES_TOPIC = "bench_batches"
_BATCH_EVENTS = 10_000
_DAY_MS = 1_362_096_000_000  # 2013-03-01
_REGION = "us-east-1"
_KEY = "test"
_PUTS_IN_FLIGHT = 16
_LIMIT_SECONDS = 300.0
_LOOK_SECONDS = 0.02
_QUERY = 'SELECT ticker, avg(price), count(*) FROM "{}" GROUP BY ticker'
# Objects, and how often they are crawled and asked for.
_SIZES = {1_000: 3, 10_000: 2, 50_000: 1}
_QUICK_SIZES = {100: 1, 200: 1}


class Lake:
    """Glue and Athena of a local AWS, with the catalogue of one topic."""

    def __init__(self, settings: CompactSettings, held: ExitStack) -> None:
        session = boto3.Session(_KEY, _KEY, region_name=_REGION)
        endpoint_url = settings.aws_endpoint_url
        glue = held.enter_context(closing(session.client("glue", endpoint_url=endpoint_url)))
        athena = held.enter_context(closing(session.client("athena", endpoint_url=endpoint_url)))
        s3 = held.enter_context(closing(session.client("s3", endpoint_url=endpoint_url)))
        for step in Ensurer(s3, glue, athena, settings, replace_targets=True).steps.values():
            step()
        self._crawler = GlueCrawler(glue, settings)
        self._engine = AthenaQueries(athena, settings)

    def crawl(self) -> float:
        """Crawl; returns the seconds until the crawler was ready again."""
        began = time.monotonic()
        self._crawler.start()
        wait_for_crawl(self._crawler, _LIMIT_SECONDS, sleep=_soon)
        return time.monotonic() - began

    def ask(self, table: str, events: int) -> float:
        """Ask `_QUERY` of a table; returns the seconds until the answer's first page was there.

        Raises:
            RuntimeError: the answer does not count all events.
        """
        began = time.monotonic()
        query = self._engine.start(_QUERY.format(table))
        wait_for_query(self._engine, query, _LIMIT_SECONDS, sleep=_soon)
        rows = self._engine.page(query, None, 100).rows
        seconds = time.monotonic() - began
        if [row[-1] for row in rows] != [events]:
            raise RuntimeError(f"{table}: the answer is {rows}, but there are {events} events")
        return seconds


def run(bench: Bench) -> Result:
    """Measure crawls and queries."""
    figures: list[Figure] = []
    with ExitStack() as held:
        aws = held.enter_context(LocalAws(bench.folder / "aws"))
        held.enter_context(mock.patch.dict("os.environ", AWS_ACCESS_KEY_ID=_KEY, AWS_SECRET_ACCESS_KEY=_KEY))
        settings = CompactSettings(
            bucket=BUCKET, create_bucket=True, topic=_TOPIC, aws_endpoint_url=aws.endpoint_url
        )
        lake = Lake(settings, held)
        ask_of_objects: Callable[[], float] = lake.crawl
        there = 0
        for size, rounds in bench.size(_SIZES, _QUICK_SIZES).items():
            began = time.monotonic()
            asyncio.run(_put(aws.endpoint_url, range(there, size)))
            there = size
            bench.say(f"{size:,} objects are there, {time.monotonic() - began:.1f} s")
            ask_of_objects = partial(lake.ask, settings.default_table, size)
            cases: dict[str, Callable[[], float]] = {"crawl": lake.crawl, "query": ask_of_objects}
            figures += [
                Figure(f"{case}_{size}_seconds", f"{case}, {size:,} objects", tuple(seconds), "s")
                for case, seconds in bench.rounds(rounds, cases).items()
            ]
        changed = {"topic": _BATCHES_TOPIC, "layout": "batches"}
        figures += _by_layout(bench, settings.model_copy(update=changed), ask_of_objects, there, held)
    query = _QUERY.format("table")
    notes = (f"The local AWS on this machine; all objects in one day's folder. Query: `{query}`.",)
    return Result(figures, notes)


def _by_layout(
    bench: Bench, settings: CompactSettings, ask_of_objects: Callable[[], float], size: int, held: ExitStack
) -> list[Figure]:
    """The query over the same events as objects, as batches, and in an Iceberg table."""
    lake = Lake(settings, held)
    _put_batches(settings, size)
    lake.crawl()
    began = time.monotonic()
    with connect(settings, _BATCHES_TOPIC) as parts:
        parts.compactor.run({0: size}, bench.say, Done(), {})
    bench.say(f"{size:,} events are compacted, {time.monotonic() - began:.1f} s")
    cases: dict[str, Callable[[], float]] = {
        "objects": ask_of_objects,
        "batches": partial(lake.ask, settings.default_table, size),
        "iceberg": partial(lake.ask, settings.default_iceberg_table, size),
    }
    found = bench.rounds(1, cases)
    each = [
        Figure(f"{case}_seconds", f"query, {size:,} events, {what}", tuple(found[case]), "s")
        for case, what in {
            "objects": "one object each",
            "batches": f"in batches of {_BATCH_EVENTS:,}",
            "iceberg": "in an Iceberg table",
        }.items()
    ]
    # A few events say nothing about many.
    target = bench.size(Target("at most", 0.1), None)
    compared = f"{size:,} events: Iceberg table ÷ one object each"
    return [
        ratio("iceberg_ratio_to_objects", compared, found["iceberg"], found["objects"], target),
        *each,
    ]


def _put_batches(settings: CompactSettings, size: int) -> None:
    """Store the events as the consumer's batches."""
    session = boto3.Session(_KEY, _KEY, region_name=_REGION)
    partition = Partition(_BATCHES_TOPIC, 0)
    records = [Record(partition, number, _DAY_MS, None, body) for number, body in enumerate(events(size))]
    with closing(session.client("s3", endpoint_url=settings.aws_endpoint_url)) as s3:
        for start in range(0, size, _BATCH_EVENTS):
            stored = batch(records[start : start + _BATCH_EVENTS], prefix=settings.batches_prefix)
            s3.put_object(Bucket=BUCKET, Key=stored.key, Body=stored.body, Metadata=stored.metadata)


async def _put(endpoint_url: str, numbers: range) -> None:
    """Put one-event objects as the consumer names them."""
    store = S3Store(
        BUCKET,
        endpoint=endpoint_url,
        region=_REGION,
        access_key_id=_KEY,
        secret_access_key=_KEY,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    bodies, left, partition = events(numbers.stop), iter(numbers), Partition(_TOPIC, 0)

    async def one_after_another() -> None:
        for number in left:
            key = event_key("events", Record(partition, number, _DAY_MS, None, None))
            await obstore.put_async(store, key, bodies[number], use_multipart=False)

    await asyncio.gather(*(one_after_another() for _ in range(_PUTS_IN_FLIGHT)))


def _soon(_: float) -> None:
    """Look again soon, however long the service would wait: it waits to spare AWS's limits."""
    time.sleep(_LOOK_SECONDS)


SUITE = Suite("Query: local crawls and queries", run)
