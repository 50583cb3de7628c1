"""Determines when a crawl is needed: when a topic has a day folder that is not in the catalogue.

Athena lists a partition's folder at each query, so new objects of a known day are visible immediately. Only a
new `dt=…` folder, or a topic's first objects, needs a crawl. One ListObjectsV2 call with a delimiter returns
up to 1,000 folders, however many objects they contain; detecting new objects would require listing all of
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lakefeed_analytics.catalogue import Catalogue
from lakefeed_analytics.edge import explained
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common.errors import MissingError
from lakefeed_common.tables import PARTITION_KEY

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Folder = tuple[str, str]
"""A topic and the value of its day folder: `("demo_testing", "2026-01-31")`."""

_DAY = f"{PARTITION_KEY}="


class Folders(Protocol):
    """The day folders that contain objects."""

    def listed(self) -> set[Folder]:
        """Every day folder of every topic."""
        ...


class S3Folders:
    """The day folders in the bucket."""

    def __init__(self, s3: S3Client, settings: AnalyticsSettings) -> None:
        self._s3 = s3
        self._settings = settings

    def listed(self) -> set[Folder]:
        """Every day folder of every topic."""
        return {(topic, day) for topic in self._settings.topic_names for day in self._days(topic)}

    def _days(self, topic: str) -> set[str]:
        prefix = self._settings.topic_prefix(topic)
        days: set[str] = set()
        with explained(self._settings, f"listing s3://{self._settings.bucket}/{prefix}"):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._settings.bucket, Prefix=prefix + _DAY, Delimiter="/"
            )
            for page in pages:
                for folder in page.get("CommonPrefixes", []):
                    days.add(folder["Prefix"].removeprefix(prefix + _DAY).rstrip("/"))
        return days


def catalogued(catalogue: Catalogue, settings: AnalyticsSettings) -> set[Folder]:
    """The day folders that are partitions in the catalogue, without those with another location."""
    known: set[Folder] = set()
    for topic in settings.topic_names:
        try:
            partitions = catalogue.partitions(settings.raw_table(topic))
        except MissingError:
            continue
        place = settings.topic_location(topic) + _DAY
        known |= {
            (topic, partition.values[0])
            for partition in partitions
            if partition.values and partition.location.rstrip("/") == place + partition.values[0]
        }
    return known


class NewFolders:
    """Remembers crawled folders, so that a folder without a partition does not start another crawl."""

    def __init__(self) -> None:
        self._catalogued: set[Folder] = set()
        self._crawled: set[Folder] = set()

    def pending(self, listed: set[Folder]) -> set[Folder]:
        """The folders that have not been crawled."""
        return listed - self._catalogued - self._crawled

    def crawled(self, folders: set[Folder]) -> None:
        """Record the folders that existed when a successful crawl started."""
        self._crawled |= folders

    def topics_crawled(self, listed: set[Folder]) -> set[str]:
        """The topics with crawled folders."""
        return {topic for topic, _ in self._crawled & listed}

    def catalogued(self, folders: set[Folder]) -> set[Folder]:
        """Record the folders in the catalogue; return and forget those that were removed from it."""
        lost = self._catalogued - folders
        self._catalogued = folders
        self._crawled -= lost
        return lost

    def forget(self, topic: str) -> None:
        """Forget a topic's folders, because its table was deleted."""
        self._catalogued = {folder for folder in self._catalogued if folder[0] != topic}
        self._crawled = {folder for folder in self._crawled if folder[0] != topic}
