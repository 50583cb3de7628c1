"""What a crawl finds: reads the objects under a target and works out the table and its partitions.

Follows https://docs.aws.amazon.com/glue/latest/dg/add-crawler.html. Reads a sample of each partition's
objects, where Glue reads the beginning of all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

from lakefeed_local.crawl.compression import beginning, is_compressed
from lakefeed_local.crawl.layout import Partition, Stored, Target, layout, table_name, visible
from lakefeed_local.crawl.schema import Columns, Sample, merge_columns, sample

# Glue's JSON classifier reads the first megabyte of a file.
_SAMPLE_BYTES = 1_000_000


class Objects(Protocol):
    """The objects of S3."""

    def objects(self, bucket: str, prefix: str) -> AsyncIterator[Stored]:
        """The objects whose keys begin with a prefix."""
        ...

    async def read(self, bucket: str, key: str, size: int) -> bytes:
        """The first bytes of an object."""
        ...


@dataclass(frozen=True)
class Stats:
    """How much a partition or a table holds; the records are counted in the sample and scaled up."""

    objects: int = 0
    size: int = 0
    records: int = 0
    compressed: bool = False

    def __add__(self, other: Stats) -> Stats:
        return Stats(
            self.objects + other.objects,
            self.size + other.size,
            self.records + other.records,
            self.compressed or other.compressed,
        )


@dataclass(frozen=True)
class FoundPartition:
    """One folder of objects; `columns` is None when none of the sample is JSON."""

    values: tuple[str, ...]
    location: str
    columns: Columns | None
    stats: Stats


@dataclass(frozen=True)
class FoundTable:
    """The table under a target, as its objects show it."""

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


async def find_table(s3: Objects, target: Target, sample_size: int) -> FoundTable | None:
    """The table under a target; None without objects.

    Args:
        s3: where the target is.
        target: the table's folder.
        sample_size: how many objects of a partition are read.
    """
    objects = [stored async for stored in s3.objects(target.bucket, target.prefix) if visible(stored, target)]
    if not objects:
        return None
    found = layout(target, objects)
    partitions = [await _read_partition(s3, target, partition, sample_size) for partition in found.partitions]
    return FoundTable(table_name(target.folder_name), target.location, found.keys, partitions)


async def _read_partition(
    s3: Objects, target: Target, partition: Partition, sample_size: int
) -> FoundPartition:
    columns: Columns | None = None
    records = size = 0
    for stored in _spread(partition.objects, sample_size):
        found, read = await _read_sample(s3, target.bucket, stored)
        if found.columns is not None:
            columns = found.columns if columns is None else merge_columns(columns, found.columns)
            records, size = records + found.records, size + read
    scaled = round(records * partition.size / size) if size else 0
    compressed = any(is_compressed(stored.key) for stored in partition.objects)
    stats = Stats(len(partition.objects), partition.size, scaled, compressed)
    return FoundPartition(partition.values, partition.location, columns, stats)


async def _read_sample(s3: Objects, bucket: str, stored: Stored) -> tuple[Sample, int]:
    """What an object's beginning says, and how many of its bytes that is."""
    size = min(stored.size, _SAMPLE_BYTES)
    body = await s3.read(bucket, stored.key, size)
    read = len(body)
    if is_compressed(stored.key):
        body, read = beginning(body, _SAMPLE_BYTES)
    truncated = stored.size > read
    # A cut may go through a character.
    text = body.decode("utf-8-sig", errors="ignore" if truncated else "replace")
    if len(text) < _SAMPLE_BYTES // 100:
        return sample(text, truncated=truncated), read
    # A long one would keep other requests waiting.
    return await asyncio.to_thread(sample, text, truncated=truncated), read


def _spread(objects: Sequence[Stored], count: int) -> Sequence[Stored]:
    """Some objects, the first and the last among them, evenly between; the same ones each time."""
    if count >= len(objects):
        return objects
    if count == 1:
        return objects[:1]
    return [objects[step * (len(objects) - 1) // (count - 1)] for step in range(count)]
