"""What a crawler is defined to do, as far as a crawl here can do it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from lakefeed_common.errors import InputError
from lakefeed_local.crawl.layout import Target, parse_target


@dataclass(frozen=True)
class Definition:
    """A crawler that makes one table of each target; the names of tables begin with `prefix`."""

    name: str
    database: str
    targets: tuple[Target, ...]
    prefix: str = ""

    @classmethod
    def parse(cls, crawler: dict[str, Any]) -> Self:
        """Read a crawler as GetCrawler shows it.

        Raises:
            InputError: a target is not an S3 address, or the crawler asks for what only Glue does.
        """
        name, targets = crawler["Name"], crawler.get("Targets") or {}
        unsupported = [text for text in _unsupported(crawler) if text]
        if unsupported:
            raise InputError(f"The local AWS cannot crawl for {name}: {'; '.join(unsupported)}")
        try:
            sources = tuple(parse_target(target["Path"]) for target in targets.get("S3Targets", []))
        except ValueError as error:
            raise InputError(f"The crawler {name}: {error}") from error
        prefix = crawler.get("TablePrefix") or ""
        return cls(name=name, database=crawler["DatabaseName"], targets=sources, prefix=prefix)


# The policies of the crawler that Lakefeed's services and Terraform module make, with Glue's own defaults.
_POLICIES = {
    ("SchemaChangePolicy", "UpdateBehavior"): ("UPDATE_IN_DATABASE", "UPDATE_IN_DATABASE"),
    ("SchemaChangePolicy", "DeleteBehavior"): ("LOG", "DEPRECATE_IN_DATABASE"),
    ("RecrawlPolicy", "RecrawlBehavior"): ("CRAWL_EVERYTHING", "CRAWL_EVERYTHING"),
}


def _unsupported(crawler: dict[str, Any]) -> Iterator[str]:
    for (policy, behavior), (supported, default) in _POLICIES.items():
        given = (crawler.get(policy) or {}).get(behavior, default)
        if given != supported:
            yield f"{behavior} is {given}, and only {supported} is supported"
    try:
        options = json.loads(crawler.get("Configuration") or "{}")
    except ValueError:
        yield "its Configuration is not JSON"
        return
    if options.get("Grouping", {}).get("TableGroupingPolicy") != "CombineCompatibleSchemas":
        yield "Grouping.TableGroupingPolicy in its Configuration has to be CombineCompatibleSchemas"
    partitions = options.get("CrawlerOutput", {}).get("Partitions", {})
    if partitions.get("AddOrUpdateBehavior") != "InheritFromTable":
        yield "CrawlerOutput.Partitions.AddOrUpdateBehavior in its Configuration has to be InheritFromTable"
    targets = crawler.get("Targets") or {}
    if others := sorted(kind for kind, each in targets.items() if kind != "S3Targets" and each):
        yield f"{', '.join(others)} are not supported"
    for option in ("Exclusions", "SampleSize"):
        if any(target.get(option) for target in targets.get("S3Targets", [])):
            yield f"{option} of a target is not supported"
