"""From the keys under a target to tables and partitions, as in Glue. Pure."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stored:
    """One object: its key and its size in bytes."""

    key: str
    size: int


@dataclass(frozen=True)
class Target:
    """A folder in a bucket; `prefix` is empty or ends with a slash."""

    bucket: str
    prefix: str

    @property
    def location(self) -> str:
        """The address of the folder, with a trailing slash."""
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def folder_name(self) -> str:
        """The name of the last folder, or of the bucket if the target is a whole bucket."""
        return self.prefix.rstrip("/").rpartition("/")[2] or self.bucket


@dataclass(frozen=True)
class Partition:
    """The objects of one folder; `values` is empty for a table without partitions."""

    values: tuple[str, ...]
    location: str
    objects: list[Stored] = field(default_factory=list, compare=False)

    @property
    def size(self) -> int:
        """Bytes of all objects."""
        return sum(stored.size for stored in self.objects)


@dataclass(frozen=True)
class Layout:
    """A folder's partition keys and partitions."""

    keys: tuple[str, ...]
    partitions: list[Partition]


def parse_target(path: str) -> Target:
    """Parse the path of a target, `s3://bucket/folder`, like Glue.

    Raises:
        ValueError: it is not an S3 address.
    """
    found = re.fullmatch(r"s3[an]?://([^/]+)/?(.*)", path)
    if found is None:
        raise ValueError(f"the target {path!r} is not an S3 address such as s3://bucket/folder/")
    bucket, prefix = found.groups()
    return Target(bucket, f"{prefix.rstrip('/')}/" if prefix.strip("/") else "")


def table_name(folder: str) -> str:
    """The name of a table: that of the folder in lower case, with `_` for all but letters and digits."""
    return re.sub(r"[^a-z0-9_]", "_", folder.lower())


def other_name(name: str, location: str) -> str:
    """The name of a table whose plain name is taken by another table."""
    return f"{name}_{hashlib.md5(location.encode(), usedforsecurity=False).hexdigest()}"


def visible(stored: Stored, target: Target) -> bool:
    """Whether a crawler reads an object: it is not empty, and not hidden by `_` or `.`."""
    path = stored.key.removeprefix(target.prefix)
    return stored.size > 0 and not any(part.startswith(("_", ".")) for part in path.split("/"))


def layout(target: Target, objects: Iterable[Stored]) -> Layout:
    """Group the objects of a folder into partitions.

    A folder `dt=2026-01-02` is a value of the partition key `dt`, any other one of `partition_<level>`.
    All partitions of a table have the same depth, so objects at another depth than most are left out.
    """
    by_folder: dict[str, list[Stored]] = {}
    for stored in objects:
        folder = stored.key.removeprefix(target.prefix).rpartition("/")[0]
        by_folder.setdefault(folder, []).append(stored)
    depths = Counter({_depth(folder): 0 for folder in by_folder})
    for folder, inside in by_folder.items():
        depths[_depth(folder)] += len(inside)
    if not depths:
        return Layout((), [])
    depth = max(depths, key=lambda level: (depths[level], level))
    chosen = {folder: inside for folder, inside in by_folder.items() if _depth(folder) == depth}
    keys = _keys(next(iter(chosen)))
    partitions = [
        Partition(_values(folder), f"{target.location}{folder}/" if folder else target.location, inside)
        for folder, inside in sorted(chosen.items())
    ]
    return Layout(keys, partitions)


def _depth(folder: str) -> int:
    return folder.count("/") + 1 if folder else 0


def _keys(folder: str) -> tuple[str, ...]:
    parts = folder.split("/") if folder else []
    return tuple(
        table_name(part.partition("=")[0]) if "=" in part else f"partition_{level}"
        for level, part in enumerate(parts)
    )


def _values(folder: str) -> tuple[str, ...]:
    return (
        tuple(part.partition("=")[2] if "=" in part else part for part in folder.split("/")) if folder else ()
    )
