"""What a bucket holds of a topic: its objects by partition, in the order of their offsets."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
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
    """

    offset: int
    day: str
    size: int
    selected: bool


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


@dataclass(frozen=True)
class Inventory:
    """The objects of a topic.

    Attributes:
        source: where they are.
        batches: whether they are batch objects.
        days: which days are to be restored.
    """

    source: Source
    batches: bool
    days: Days
    _columns: dict[int, _Column]

    @classmethod
    def of(cls, source: Source, listed: Iterable[Listed], days: Days = Days()) -> Self:
        """Sort what S3 lists; keys that are not a topic's objects are ignored, such as a kept conflict.

        Raises:
            MissingError: there are no objects to restore.
            InputError: both layouts are under the prefix.
        """
        columns: dict[int, _Column] = {}
        kinds: set[bool] = set()
        selected = False
        for one in listed:
            key = ObjectKey.parse(source.prefix, one.key)
            if key is None or key.partition.topic != source.topic:
                continue
            kinds.add(key.batch)
            selected = selected or key.day in days
            day = date.fromisoformat(key.day).toordinal()
            columns.setdefault(key.partition.number, _Column()).add(key.offset, day, one.size)
        if len(kinds) > 1:
            raise InputError(
                f"{source} has batch objects and one-event objects. Each layout has a prefix of its own: "
                "move the objects of one of them to another prefix, and restore both, the older layout first"
            )
        if not kinds:
            raise MissingError(f"{source} has no objects of events. Check bucket, prefix and topic")
        if not selected:
            raise MissingError(f"{source} has no objects of these days. Check --since and --until")
        for column in columns.values():
            column.sort()
        return cls(source, kinds == {True}, days, columns)

    @property
    def partitions(self) -> list[int]:
        """The partitions that have objects, ascending."""
        return sorted(self._columns)

    def objects(self, partition: int) -> Iterator[Found]:
        """The objects of a partition, ascending by offset, then by day."""
        column = self._columns.get(partition) or _Column()
        for offset, ordinal, size in zip(column.offsets, column.days, column.sizes, strict=True):
            day = date.fromordinal(ordinal).isoformat()
            yield Found(offset, day, size, day in self.days)

    def key(self, partition: int, found: Found) -> str:
        """The whole key of an object."""
        where = Partition(self.source.topic, partition)
        return ObjectKey(where, found.day, found.offset, self.batches).text(self.source.prefix)

    def count(self) -> int:
        """How many objects are to be restored."""
        return sum(found.selected for partition in self.partitions for found in self.objects(partition))

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

    def has_other_day(self, partition: int, offset: int) -> bool:
        """Whether an object that starts at an offset is of a day that is not to be restored."""
        return any(found.offset == offset and not found.selected for found in self.objects(partition))

    def oldest_day(self) -> str:
        """The first day that is to be restored: no record of it is older."""
        return min(
            found.day for partition in self.partitions for found in self.objects(partition) if found.selected
        )
