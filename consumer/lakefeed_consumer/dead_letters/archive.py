"""The dead letters of a bucket: found by topic and day, read, and marked as replayed.

A batch that conflicts with another one is one object here, and a dead letter for each of its records.

The marker is an object of its own next to the dead letter, `<key of the dead letter>.replayed`. It sorts
directly after the dead letter, so one pass over the keys, with two of them in memory, finds which have one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from tempfile import SpooledTemporaryFile
from typing import NamedTuple, TypeVar

import orjson

from lakefeed_common.errors import InputError, MissingError
from lakefeed_common.lake.keys import BATCH_SUFFIX
from lakefeed_common.lake.metadata import BatchMetadata
from lakefeed_consumer.backoff import Backoff
from lakefeed_consumer.dead_letters.format import DeadLetter, conflict_reason, parse_batch
from lakefeed_consumer.object_store import ObjectExistsError, ObjectStore, StoreUnavailableError

T = TypeVar("T")

_MARKER = ".replayed"
# A conflict whose key another dead letter holds has a digest in its key. So has each batch that conflicts.
_KEY = re.compile(
    r"(?P<topic>[^/]+)/dt=(?P<day>\d{4}-\d\d-\d\d)/(?P<partition>\d{5,})-(?P<offset>\d{20})"
    r"(-[0-9a-f]{16}\.json\.gz|(-[0-9a-f]{16})?\.json)"
)
_POSITION = re.compile(r"([^/]+)/(\d+)/(\d+)")
# How many are read at the same time, and kept in memory.
_BATCH = 50
_DELETED = "damaged: it was deleted meanwhile"
_ATTEMPTS = 5
_SNAPSHOT_BYTES_IN_MEMORY = 1_000_000


@dataclass(frozen=True, slots=True)
class Location:
    """The key of a dead letter and what it contains; `day` is `YYYY-MM-DD`, `offset` the start of a batch."""

    key: str
    topic: str
    day: str
    partition: int
    offset: int
    replayed: bool = False

    @property
    def is_batch(self) -> bool:
        """Whether it is a batch that conflicts with another one."""
        return self.key.endswith(BATCH_SUFFIX)


class Position(NamedTuple):
    """The position of a record in Kafka."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters are meant; None matches all. `since` includes its day."""

    topic: str | None = None
    day: str | None = None
    since: str | None = None
    reason: str = ""

    def matches(self, location: Location) -> bool:
        """Whether a dead letter is meant, as far as its key tells."""
        return (
            self.topic in (None, location.topic)
            and self.day in (None, location.day)
            and (self.since is None or location.day >= self.since)
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """An object of the archive that was read: one dead letter, or the metadata of a batch that conflicts.

    Attributes:
        location: of the object.
        dead_letter: None if it is a batch, or damaged.
        reason: why it is here, or how it is damaged.
        batch: None if it is a dead letter, or damaged.
    """

    location: Location
    dead_letter: DeadLetter | None
    reason: str
    batch: BatchMetadata | None = None

    @property
    def is_damaged(self) -> bool:
        """Whether it cannot be read."""
        return self.dead_letter is None and self.batch is None

    @property
    def records(self) -> int:
        """How many records it holds: any number for a batch."""
        return self.batch.records if self.batch else int(self.dead_letter is not None)


class Archive:
    """The dead letters under a prefix of a bucket.

    Every method raises what `ObjectStore` raises; reading and marking are retried before.
    """

    def __init__(self, store: ObjectStore, prefix: str, backoff: Backoff) -> None:
        self._store = store
        self._prefix = prefix
        self._backoff = backoff

    async def find(self, selection: Selection) -> AsyncIterator[Location]:
        """Locations in the order of their keys: topic, day, partition, offset."""
        prefix, after = self._prefix, ""
        if selection.topic is not None:
            prefix += f"/{selection.topic}"
            if selection.day is not None:
                prefix += f"/dt={selection.day}"
            elif selection.since is not None:
                after = f"{prefix}/dt={selection.since}"
        last: Location | None = None
        async for key in self._store.keys(prefix, after):
            if last is not None and key == last.key + _MARKER:
                last = replace(last, replayed=True)
            elif (location := self._parse(key)) is not None and selection.matches(location):
                if last is not None:
                    yield last
                last = location
        if last is not None:
            yield last

    async def resolve(self, name: str) -> list[Location]:
        """The dead letters of a name: a key, or `topic/partition/offset`, which conflicts can share.

        Raises:
            InputError: it is neither.
            MissingError: there is no such dead letter.
        """
        if position := _POSITION.fullmatch(name):
            topic, partition, offset = position[1], int(position[2]), int(position[3])
            of_topic = self.find(Selection(topic=topic))
            locations = [
                each async for each in of_topic if (each.partition, each.offset) == (partition, offset)
            ]
        elif location := self._parse(name):
            of_day = self.find(Selection(topic=location.topic, day=location.day))
            locations = [each async for each in of_day if each.key == name]
        else:
            raise InputError(
                f"{name} is not the name of a dead letter. Give topic/partition/offset, or its key as "
                f"`dead-letters list --json` prints it, which begins with {self._prefix}/."
            )
        if not locations:
            raise MissingError(f"there is no dead letter {name}. See `lakefeed-consumer dead-letters list`.")
        return locations

    async def read(self, locations: AsyncIterable[Location], reason: str = "") -> AsyncIterator[list[Entry]]:
        """Read dead letters in their order, some at a time; those whose reason contains this text."""
        batch: list[Location] = []
        async for location in locations:
            batch.append(location)
            if len(batch) == _BATCH:
                yield await self._read(batch, reason)
                batch.clear()
        yield await self._read(batch, reason)

    async def dead_letters(self, entry: Entry) -> list[DeadLetter]:
        """The dead letter of an object, or one for each record of a batch, which is read whole.

        Raises:
            InputError: it is damaged.
        """
        if entry.dead_letter is not None:
            return [entry.dead_letter]
        if entry.batch is None:
            raise InputError(entry.reason)
        body = await self._retry(lambda: self._store.read(entry.location.key))
        if body is None:
            raise InputError(_DELETED)
        records = await asyncio.to_thread(parse_batch, entry.location.topic, body, entry.batch)
        return [DeadLetter(record, entry.reason) for record in records]

    async def snapshot(self, selection: Selection) -> AsyncIterator[Location]:
        """What `find` returns now, whatever is added while it is consumed; kept in a file.

        A replayed record may become another dead letter, which `find` would return later.
        """
        with SpooledTemporaryFile(_SNAPSHOT_BYTES_IN_MEMORY) as file:
            async for location in self.find(selection):
                file.write(orjson.dumps(location) + b"\n")
            file.seek(0)
            for line in file:
                yield Location(**orjson.loads(line))

    async def mark_replayed(self, location: Location, position: Position) -> None:
        """Record where a dead letter was sent to; the marker of an earlier replay stays."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        body = orjson.dumps({"replayed_at": at, **position._asdict()})

        async def create() -> None:
            try:
                await self._store.create(location.key + _MARKER, body)
            except ObjectExistsError:
                return

        await self._retry(create)

    async def replayed(self, location: Location) -> dict[str, object] | None:
        """When and to which position a dead letter was replayed; None if it was not."""
        body = await self._retry(lambda: self._store.read(location.key + _MARKER))
        return None if body is None else orjson.loads(body)

    def _parse(self, key: str) -> Location | None:
        if not key.startswith(f"{self._prefix}/"):
            return None
        parts = _KEY.fullmatch(key, len(self._prefix) + 1)
        if parts is None:
            return None
        return Location(key, parts["topic"], parts["day"], int(parts["partition"]), int(parts["offset"]))

    async def _read(self, locations: list[Location], reason: str) -> list[Entry]:
        entries = await asyncio.gather(*map(self._read_one, locations))
        return [entry for entry in entries if reason.casefold() in entry.reason.casefold()]

    async def _read_one(self, location: Location) -> Entry:
        if location.is_batch:
            return await self._read_metadata(location)
        body = await self._retry(lambda: self._store.read(location.key))
        if body is None:
            return Entry(location, None, _DELETED)
        try:
            dead_letter = DeadLetter.parse(body)
        except InputError as error:
            return Entry(location, None, str(error))
        return Entry(location, dead_letter, dead_letter.reason)

    async def _read_metadata(self, location: Location) -> Entry:
        """The metadata of a batch, whose body may be large."""
        metadata = await self._retry(lambda: self._store.metadata(location.key))
        if metadata is None:
            return Entry(location, None, _DELETED)
        try:
            batch = BatchMetadata.parse(metadata)
        except InputError as error:
            return Entry(location, None, f"damaged: {error}")
        return Entry(location, None, conflict_reason(batch), batch)

    async def _retry(self, action: Callable[[], Awaitable[T]]) -> T:
        for failures in range(1, _ATTEMPTS):
            try:
                return await action()
            except StoreUnavailableError:
                await asyncio.sleep(self._backoff.wait(failures))
        return await action()
