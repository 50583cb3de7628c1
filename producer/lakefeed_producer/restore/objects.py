"""What a bucket holds of a topic: its objects by partition, in the order of their offsets."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from heapq import merge
from typing import NamedTuple, Self

from lakefeed_common.errors import InputError, MissingError, SettingsError
from lakefeed_common.lake.keys import ObjectKey
from lakefeed_common.lake.records import Partition

_ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.+)/([A-Za-z0-9._-]{1,249})/?")


class Listed(NamedTuple):
    """An object as S3 lists it: its key, and the bytes of its body."""

    key: str
    size: int


@dataclass(frozen=True)
class Source:
    """Where the objects of a topic are: `s3://BUCKET/PREFIX/TOPIC`."""

    bucket: str
    prefix: str
    topic: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Parse an address.

        Raises:
            SettingsError: it does not name bucket, prefix and topic.
        """
        match = _ADDRESS.fullmatch(text)
        if match is None:
            raise SettingsError(
                f"{text} is not the address of a topic's objects. Give bucket, prefix and topic: "
                "s3://bucket/batches/prices or s3://bucket/events/prices"
            )
        return cls(match[1], match[2].strip("/"), match[3])

    @property
    def folder(self) -> str:
        """What all keys begin with."""
        return f"{self.prefix}/{self.topic}/"

    @classmethod
    def all_of(cls, texts: Sequence[str]) -> list[Self]:
        """Parse the addresses of one topic's objects in its layouts.

        Raises:
            SettingsError: one is no address, or they name several buckets or topics.
        """
        sources = [cls.of(text) for text in dict.fromkeys(texts)]
        if len({(source.bucket, source.topic) for source in sources}) > 1:
            raise SettingsError(
                f"{' and '.join(map(str, sources))}: give the layouts of one topic in one bucket, such as "
                "s3://bucket/events/prices s3://bucket/batches/prices"
            )
        return sources

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}/{self.topic}"


@dataclass(frozen=True)
class Days:
    """A range of UTC days, both included; None is unbounded."""

    since: date | None = None
    until: date | None = None

    def __contains__(self, day: str) -> bool:
        return (self.since is None or day >= self.since.isoformat()) and (
            self.until is None or day <= self.until.isoformat()
        )


class Found(NamedTuple):
    """An object of a partition.

    Attributes:
        offset: of the event, or the position at which the batch starts.
        day: `YYYY-MM-DD`.
        size: bytes of its body.
        selected: whether its day is to be restored.
        batch: whether it is a batch object.
        after: from which offset on the objects before it are not to be restored; None if the last one is.
    """

    offset: int
    day: str
    size: int
    selected: bool
    batch: bool
    after: int | None = None


@dataclass
class _Column:
    """Objects of one partition, in a few bytes each: a bucket may have millions of one-event objects."""

    offsets: array[int] = field(default_factory=lambda: array("q"))
    days: array[int] = field(default_factory=lambda: array("l"))
    sizes: array[int] = field(default_factory=lambda: array("q"))

    def add(self, offset: int, day: int, size: int) -> None:
        self.offsets.append(offset)
        self.days.append(day)
        self.sizes.append(size)

    def sort(self) -> None:
        """Order by offset, then by day."""
        order = sorted(range(len(self.offsets)), key=lambda at: (self.offsets[at], self.days[at]))
        for name in ("offsets", "days", "sizes"):
            values = getattr(self, name)
            setattr(self, name, array(values.typecode, (values[at] for at in order)))


def _add_source(sources: dict[bool, Source], source: Source, kinds: set[bool]) -> None:
    """Add the source of a layout."""
    if len(kinds) > 1:
        raise InputError(
            f"{source} has batch objects and one-event objects. Each layout has a prefix of its own: move "
            "the objects of one of them to another prefix, and restore both with one command"
        )
    if not kinds:
        raise MissingError(f"{source} has no objects of events. Check bucket, prefix and topic")
    other = sources.setdefault(kinds.pop(), source)
    if other is not source:
        raise SettingsError(f"{other} and {source} have the same layout. Restore one of them")


@dataclass(frozen=True)
class Inventory:
    """The objects of a topic, in one layout or in both.

    Attributes:
        sources: where they are, by whether they are batch objects.
        days: which days are to be restored.
    """

    sources: Mapping[bool, Source]
    days: Days
    _columns: dict[int, dict[bool, _Column]]

    @classmethod
    def of(cls, listed: Mapping[Source, Iterable[Listed]], days: Days = Days()) -> Self:
        """Sort what S3 lists; keys that are not a topic's objects are ignored, such as a kept conflict.

        Args:
            listed: the objects of each source.
            days: which days are to be restored.

        Raises:
            MissingError: there are no objects to restore.
            InputError: both layouts are under one prefix.
            SettingsError: two sources have the same layout.
        """
        columns: dict[int, dict[bool, _Column]] = {}
        sources: dict[bool, Source] = {}
        selected = False
        for source, objects in listed.items():
            kinds: set[bool] = set()
            for one in objects:
                key = ObjectKey.parse(source.prefix, one.key)
                if key is None or key.partition.topic != source.topic:
                    continue
                kinds.add(key.batch)
                selected = selected or key.day in days
                day = date.fromisoformat(key.day).toordinal()
                partition = columns.setdefault(key.partition.number, {})
                partition.setdefault(key.batch, _Column()).add(key.offset, day, one.size)
            _add_source(sources, source, kinds)
        if not selected:
            where = " and ".join(map(str, listed))
            raise MissingError(f"{where}: there are no objects of these days. Check --since and --until")
        for partition in columns.values():
            for column in partition.values():
                column.sort()
        return cls(sources, days, columns)

    @property
    def topic(self) -> str:
        """The topic that the objects are of."""
        return next(iter(self.sources.values())).topic

    @property
    def bucket(self) -> str:
        """The bucket in which they are."""
        return next(iter(self.sources.values())).bucket

    @property
    def partitions(self) -> list[int]:
        """The partitions that have objects, ascending."""
        return sorted(self._columns)

    def objects(self, partition: int) -> Iterator[Found]:
        """The objects of a partition, ascending by offset: batches first, and then by day."""
        layouts = [self._found(column, batch) for batch, column in self._columns.get(partition, {}).items()]
        after: int | None = None
        for found in merge(*layouts, key=lambda one: (one.offset, not one.batch, one.day)):
            yield found if after is None else found._replace(after=after)
            if found.selected:
                after = None
            elif after is None:
                # Before a one-event object that follows a batch, offsets may be in no object.
                after = found.offset if found.batch else 0

    def _found(self, column: _Column, batch: bool) -> Iterator[Found]:  # noqa: FBT001 - a key
        for offset, ordinal, size in zip(column.offsets, column.days, column.sizes, strict=True):
            day = date.fromordinal(ordinal).isoformat()
            yield Found(offset, day, size, day in self.days, batch)

    def key(self, partition: int, found: Found) -> str:
        """The whole key of an object."""
        source = self.sources[found.batch]
        where = Partition(source.topic, partition)
        return ObjectKey(where, found.day, found.offset, found.batch).text(source.prefix)

    def count(self, *, batches: bool) -> int:
        """How many objects of a layout are to be restored."""
        return sum(
            found.selected and found.batch is batches
            for partition in self.partitions
            for found in self.objects(partition)
        )

    def bytes(self) -> int:
        """The size of all bodies that are to be restored."""
        return sum(
            found.size for partition in self.partitions for found in self.objects(partition) if found.selected
        )

    def largest_bytes(self) -> int:
        """The size of the bodies of the largest partition."""
        return max(
            sum(found.size for found in self.objects(partition) if found.selected)
            for partition in self.partitions
        )

    def oldest_day(self) -> str:
        """The first day that is to be restored: no record of it is older."""
        return min(
            found.day for partition in self.partitions for found in self.objects(partition) if found.selected
        )
