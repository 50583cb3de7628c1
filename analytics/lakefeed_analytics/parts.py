"""Wires the components that call AWS."""

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

# The number of threads in which FastAPI runs endpoints.
_CONNECTIONS = 40


@dataclass(frozen=True)
class Parts:
    """The components of the service: for AWS, or fakes."""

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
    """Create the components for AWS; connections are closed at the end. No request is sent yet.

    `attempt` is called before and after each attempt of a call to AWS, in the calling thread. For
    `replace_targets`, see `Ensurer`.
    """
    with ExitStack() as held:
        # A profile that does not exist is detected here.
        with explained(settings, "preparing to call AWS"):
            s3, glue, athena = (
                held.enter_context(
                    closing(aws.client(name, settings, attempt=attempt, connections=_CONNECTIONS))
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
