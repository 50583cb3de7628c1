"""One crawl: reads every target of a crawler, and brings the catalogue up to date."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from lakefeed_common.errors import LakefeedError
from lakefeed_local.crawl.catalogue import Catalogue, Glue
from lakefeed_local.crawl.changes import Changes
from lakefeed_local.crawl.definition import Definition
from lakefeed_local.crawl.finder import FoundTable, Objects, find_table

log = logging.getLogger(__name__)


class Aws(Glue, Objects, Protocol):
    """What a crawl needs of AWS."""


async def crawl(aws: Aws, crawler: dict[str, Any], sample_size: int, changes: Changes) -> None:
    """Crawl for a crawler as GetCrawler shows it.

    Args:
        aws: S3 and Glue.
        crawler: the crawler.
        sample_size: how many objects of a partition are read.
        changes: gets what was changed, also when the crawl fails.

    Raises:
        LakefeedError: AWS refused a call, the crawler asks for what only Glue does, or no table could be
            made of a target; the other targets have theirs.
    """
    definition = Definition.parse(crawler)
    catalogue = await Catalogue.read(aws, definition, changes)
    found: list[FoundTable] = []
    failures: list[str] = []
    for target in definition.targets:
        with _collect_failure(target.location, failures):
            table = await find_table(aws, target, sample_size)
            found += [table] if table is not None else []
    for table in found:
        with _collect_failure(table.location, failures):
            await catalogue.apply(table)
    if failures:
        raise LakefeedError("; ".join(failures))


@contextmanager
def _collect_failure(location: str, failures: list[str]) -> Iterator[None]:
    """Keep an error of one folder's objects from the other folders' tables; AWS's errors concern all."""
    try:
        yield
    except LakefeedError:
        raise
    except Exception as error:
        log.exception("No table could be made of %s", location)
        failures.append(f"No table could be made of {location}: {error!r}")
