"""Wires the parts that speak to AWS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from lakefeed_analytics.athena import AthenaQueries, QueryEngine
from lakefeed_analytics.catalogue import Catalogue, GlueCatalogue
from lakefeed_analytics.crawl import Crawler, GlueCrawler
from lakefeed_analytics.edge import explained
from lakefeed_analytics.ensure import Ensurer, Steps
from lakefeed_analytics.folders import Folders, S3Folders
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common import aws

# As many as the threads that FastAPI answers requests from.
_CONNECTIONS = 40


@dataclass(frozen=True)
class Parts:
    """What the service works with: AWS, or fakes of it."""

    ensure: Steps
    catalogue: Catalogue
    crawler: Crawler
    folders: Folders
    engine: QueryEngine


@contextmanager
def connect(
    settings: AnalyticsSettings,
    attempt: Callable[[], None] = lambda: None,
    *,
    replace_targets: bool = False,
) -> Iterator[Parts]:
    """The parts against AWS, whose connections are closed at the end. Nothing is called yet.

    `attempt` is called before and after each attempt of a call to AWS, by the thread that calls.
    `replace_targets` is of `Ensurer`.
    """
    with ExitStack() as held:
        # A profile that does not exist is noticed here already.
        with explained(settings, "preparing to call AWS"):
            s3, glue, athena = (
                held.enter_context(
                    closing(aws.client(name, settings, attempt=attempt, max_pool_connections=_CONNECTIONS))
                )
                for name in ("s3", "glue", "athena")
            )
        yield Parts(
            ensure=Ensurer(s3, glue, athena, settings, replace_targets=replace_targets).steps,
            catalogue=GlueCatalogue(glue, settings),
            crawler=GlueCrawler(glue, settings),
            folders=S3Folders(s3, settings),
            engine=AthenaQueries(athena, settings),
        )
