"""Measures queries and crawls of the local AWS with increasing numbers of objects.

The local AWS runs S3, Athena (DuckDB) and crawls on this machine. The figures show how the cost grows with
the number of objects, not how long AWS takes. One topic grows from size to size, so the sizes cannot be
measured in turns. More objects mean fewer rounds: with 50,000, a query takes minutes on a busy machine, and
creating them, which is not measured, even longer. Each crawl reads everything, so later ones are not faster.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial

import boto3
import obstore
from obstore.store import S3Store

from benchmarks.figures import Figure, Result
from benchmarks.stores import BUCKET
from benchmarks.suite import Bench, Suite
from benchmarks.topics import events
from lakefeed_analytics.athena import AthenaQueries, wait_for_query
from lakefeed_analytics.crawl import GlueCrawler, wait_for_crawl
from lakefeed_analytics.ensure import Ensurer
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_local.aws import LocalAws

_TOPIC = "bench"
_REGION = "us-east-1"
_KEY = "test"
_PUTS_IN_FLIGHT = 16
_LIMIT_SECONDS = 300.0
_LOOK_SECONDS = 0.02
_QUERY = f'SELECT ticker, avg(price), count(*) FROM "{_TOPIC}" GROUP BY ticker'  # noqa: S608 - a name of ours
# Objects, and how often they are crawled and asked for.
_SIZES = {1_000: 3, 10_000: 2, 50_000: 1}
_QUICK_SIZES = {100: 1, 200: 1}


class Lake:
    """Glue and Athena of a local AWS, with the catalogue of one topic."""

    def __init__(self, endpoint_url: str, held: ExitStack) -> None:
        settings = AnalyticsSettings(bucket=BUCKET, topic=_TOPIC, aws_endpoint_url=endpoint_url)
        session = boto3.Session(_KEY, _KEY, region_name=_REGION)
        glue = held.enter_context(closing(session.client("glue", endpoint_url=endpoint_url)))
        athena = held.enter_context(closing(session.client("athena", endpoint_url=endpoint_url)))
        s3 = held.enter_context(closing(session.client("s3", endpoint_url=endpoint_url)))
        s3.create_bucket(Bucket=BUCKET)
        for step in Ensurer(s3, glue, athena, settings).steps.values():
            step()
        self._crawler = GlueCrawler(glue, settings)
        self._engine = AthenaQueries(athena, settings)

    def crawl(self) -> float:
        """Crawl; returns the seconds until the crawler was ready again."""
        began = time.monotonic()
        self._crawler.start()
        wait_for_crawl(self._crawler, _LIMIT_SECONDS, sleep=_soon)
        return time.monotonic() - began

    def ask(self, objects: int) -> float:
        """Ask `_QUERY`; returns the seconds until the answer's first page was there.

        Raises:
            RuntimeError: the answer does not count all objects.
        """
        began = time.monotonic()
        query = self._engine.start(_QUERY)
        wait_for_query(self._engine, query, _LIMIT_SECONDS, sleep=_soon)
        rows = self._engine.page(query, None, 100).rows
        seconds = time.monotonic() - began
        if [row[-1] for row in rows] != [objects]:
            raise RuntimeError(f"{_QUERY}: the answer is {rows}, but there are {objects} objects")
        return seconds


def run(bench: Bench) -> Result:
    """Measure crawls and queries."""
    figures: list[Figure] = []
    with ExitStack() as held:
        aws = held.enter_context(LocalAws(bench.folder / "aws"))
        lake = Lake(aws.endpoint_url, held)
        there = 0
        for size, rounds in bench.size(_SIZES, _QUICK_SIZES).items():
            began = time.monotonic()
            asyncio.run(_put(aws.endpoint_url, range(there, size)))
            there = size
            bench.say(f"{size:,} objects are there, {time.monotonic() - began:.1f} s")
            cases: dict[str, Callable[[], float]] = {"crawl": lake.crawl, "query": partial(lake.ask, size)}
            figures += [
                Figure(f"{case}_{size}_seconds", f"{case}, {size:,} objects", tuple(seconds), "s")
                for case, seconds in bench.rounds(rounds, cases).items()
            ]
    notes = (f"The local AWS on this machine; all objects in one day's folder. Query: `{_QUERY}`.",)
    return Result(figures, notes)


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
    bodies, left = events(numbers.stop), iter(numbers)

    async def one_after_another() -> None:
        for number in left:
            key = f"events/{_TOPIC}/dt=2013-03-01/00000-{number:020d}.json"
            await obstore.put_async(store, key, bodies[number], use_multipart=False)

    await asyncio.gather(*(one_after_another() for _ in range(_PUTS_IN_FLIGHT)))


def _soon(_: float) -> None:
    """Look again soon, however long the service would wait: it waits to spare AWS's limits."""
    time.sleep(_LOOK_SECONDS)


SUITE = Suite("Query: local crawls and queries", run)
