"""What a crawl finds: reads the objects under a crawler's targets and works out tables and partitions.

Follows https://docs.aws.amazon.com/glue/latest/dg/add-crawler.html. Reads a sample of each partition's
objects, where Glue reads the beginning of all of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from typing import Any, Self

from lakefeed_common.errors import InputError
from lakefeed_local.layout import (
    Partition,
    Stored,
    Target,
    exclusion,
    layout,
    parse_target,
    table_name,
    visible,
)
from lakefeed_local.schema import Columns, Sample, merge_columns, sample, similar

# Glue's JSON classifier looks at the first megabyte of a file.
_SAMPLE_BYTES = 1_000_000
_READERS = 8


@dataclass(frozen=True)
class Source:
    """One target of a crawler."""

    target: Target
    excluded: tuple[re.Pattern[str], ...]
    sample_size: int | None


@dataclass(frozen=True)
class Definition:
    """What a crawler is told to do, with Glue's defaults for what is left out."""

    name: str
    database: str
    sources: tuple[Source, ...]
    table_prefix: str
    update: bool
    delete: str
    new_folders_only: bool
    one_table: bool
    inherit: bool

    @classmethod
    def parse(cls, crawler: dict[str, Any]) -> Self:
        """Read a crawler as GetCrawler shows it.

        Raises:
            InputError: a target is no S3 address, or an exclusion or the Configuration cannot be read.
        """
        policy = crawler.get("SchemaChangePolicy") or {}
        recrawl = (crawler.get("RecrawlPolicy") or {}).get("RecrawlBehavior", "CRAWL_EVERYTHING")
        try:
            options = json.loads(crawler.get("Configuration") or "{}")
            sources = tuple(_source(told) for told in crawler.get("Targets", {}).get("S3Targets", []))
        except ValueError as error:
            raise InputError(f"the crawler {crawler['Name']}: {error}") from error
        grouping = options.get("Grouping", {}).get("TableGroupingPolicy")
        partitions = options.get("CrawlerOutput", {}).get("Partitions", {})
        return cls(
            name=crawler["Name"],
            database=crawler["DatabaseName"],
            sources=sources,
            table_prefix=crawler.get("TablePrefix") or "",
            update=policy.get("UpdateBehavior", "UPDATE_IN_DATABASE") == "UPDATE_IN_DATABASE",
            delete=policy.get("DeleteBehavior", "DEPRECATE_IN_DATABASE"),
            new_folders_only=recrawl == "CRAWL_NEW_FOLDERS_ONLY",
            one_table=grouping == "CombineCompatibleSchemas",
            inherit=partitions.get("AddOrUpdateBehavior") == "InheritFromTable",
        )


def _source(told: dict[str, Any]) -> Source:
    excluded = tuple(exclusion(glob) for glob in told.get("Exclusions") or ())
    return Source(parse_target(told["Path"]), excluded, told.get("SampleSize"))


@dataclass(frozen=True)
class Stats:
    """How much a partition or a table holds; the records are counted in the sample and scaled up."""

    objects: int = 0
    size: int = 0
    records: int = 0

    def __add__(self, other: Stats) -> Stats:
        return Stats(self.objects + other.objects, self.size + other.size, self.records + other.records)


@dataclass(frozen=True)
class FoundPartition:
    """One folder of objects; `columns` is None when none of the sample is JSON."""

    values: tuple[str, ...]
    location: str
    columns: Columns | None
    stats: Stats


@dataclass(frozen=True)
class FoundTable:
    """One table under a target, as the objects show it."""

    name: str
    location: str
    keys: tuple[str, ...]
    partitions: list[FoundPartition]

    @property
    def columns(self) -> Columns | None:
        """Columns of all partitions together; None when no object is JSON."""
        known = [partition.columns for partition in self.partitions if partition.columns is not None]
        return reduce(merge_columns, known) if known else None

    @property
    def stats(self) -> Stats:
        """Of all partitions together."""
        return sum((partition.stats for partition in self.partitions), Stats())


class Finder:
    """Reads a crawler's targets.

    Args:
        s3: a boto3 client.
        sample_size: objects read of a partition, unless the target says how many.
        checkpoint: called between steps; raises to end the crawl.
    """

    def __init__(self, s3: Any, *, sample_size: int, checkpoint: Callable[[], None]) -> None:
        self._s3 = s3
        self._sample_size = sample_size
        self._checkpoint = checkpoint
        self.objects_seen = 0

    def tables(
        self, definition: Definition, source: Source, known: Callable[[FoundTable], set[tuple[str, ...]]]
    ) -> list[FoundTable]:
        """The tables under one target; none when there is no object.

        `known` gives the partitions of a table that the catalogue has; a crawl of new folders only does
        not read those again.
        """
        objects = list(self._list(source))
        folders = [(source.target, objects)]
        if not definition.one_table:
            folders = self._split(source, objects)
        found = (
            self._table(definition, source, target, inside, known) for target, inside in folders if inside
        )
        return [table for table in found if table is not None]

    def _list(self, source: Source) -> Iterator[Stored]:
        target = source.target
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=target.bucket, Prefix=target.prefix)
        for page in pages:
            self._checkpoint()
            for entry in page.get("Contents", []):
                stored = Stored(entry["Key"], entry["Size"])
                if visible(stored, target, source.excluded):
                    self.objects_seen += 1
                    yield stored

    def _split(self, source: Source, objects: list[Stored]) -> list[tuple[Target, list[Stored]]]:
        """One table for a target whose folders look alike, else one for each folder, as Glue does."""
        target = source.target
        by_folder: dict[str, list[Stored]] = {}
        for stored in objects:
            folder, slash, _ = stored.key.removeprefix(target.prefix).partition("/")
            by_folder.setdefault(folder if slash else "", []).append(stored)
        looks = [self._look(target, inside, source).columns or {} for inside in by_folder.values()]
        if all(similar(looks[0], other) for other in looks[1:]):
            return [(target, objects)]
        return [
            (Target(target.bucket, f"{target.prefix}{folder}/") if folder else target, inside)
            for folder, inside in by_folder.items()
        ]

    def _table(
        self,
        definition: Definition,
        source: Source,
        target: Target,
        objects: list[Stored],
        known: Callable[[FoundTable], set[tuple[str, ...]]],
    ) -> FoundTable | None:
        found = layout(target, objects)
        name = table_name(target.folder_name, definition.table_prefix)
        empty = FoundTable(name, target.location, found.keys, [])
        partitions = found.partitions
        if definition.new_folders_only and found.keys:
            old = known(empty)
            partitions = [partition for partition in partitions if partition.values not in old]
        with ThreadPoolExecutor(_READERS) as pool:
            read = list(pool.map(lambda partition: self._partition(target, partition, source), partitions))
        return FoundTable(name, target.location, found.keys, read)

    def _partition(self, target: Target, partition: Partition, source: Source) -> FoundPartition:
        seen = self._look(target, partition.objects, source)
        stats = Stats(len(partition.objects), partition.size, seen.scaled(partition))
        return FoundPartition(partition.values, partition.location, seen.columns, stats)

    def _look(self, target: Target, objects: Sequence[Stored], source: Source) -> _Look:
        look = _Look(None, 0, 0)
        for stored in _spread(objects, source.sample_size or self._sample_size):
            self._checkpoint()
            look = look.with_sample(*self._read(target.bucket, stored))
        return look

    def _read(self, bucket: str, stored: Stored) -> tuple[Sample, int]:
        size = min(stored.size, _SAMPLE_BYTES)
        answer = self._s3.get_object(Bucket=bucket, Key=stored.key, Range=f"bytes=0-{size - 1}")
        body = answer["Body"].read()
        truncated = stored.size > size
        # A cut may go through a character.
        text = body.decode("utf-8-sig", errors="ignore" if truncated else "replace")
        return sample(text, truncated=truncated), len(body)


@dataclass(frozen=True)
class _Look:
    """What the objects read so far say."""

    columns: Columns | None
    records: int
    size: int

    def with_sample(self, found: Sample, size: int) -> _Look:
        if found.columns is None:
            return self
        columns = found.columns if self.columns is None else merge_columns(self.columns, found.columns)
        return _Look(columns, self.records + found.records, self.size + size)

    def scaled(self, partition: Partition) -> int:
        """Records of a whole partition, from those of the sample."""
        return round(self.records * partition.size / self.size) if self.size else 0


def _spread(objects: Sequence[Stored], count: int) -> Sequence[Stored]:
    """Some objects, the first and the last among them, evenly between; the same ones each time."""
    if count >= len(objects):
        return objects
    if count == 1:
        return objects[:1]
    return [objects[step * (len(objects) - 1) // (count - 1)] for step in range(count)]
