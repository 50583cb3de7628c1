"""The dead letters of a bucket: found by topic and day, read, and marked when they were replayed.

The mark is an object of its own beside the letter, `<the letter's key>.replayed`. It sorts right behind
the letter, so one pass over the keys, with two of them in memory, tells which letters have one.
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
from lakefeed_consumer.backoff import Backoff
from lakefeed_consumer.dead_letters import DeadLetter
from lakefeed_consumer.object_store import ObjectExistsError, ObjectStore, StoreUnavailableError

T = TypeVar("T")

_MARK = ".replayed"
# A conflict at the place of another letter has a digest in its key.
_LETTER = re.compile(
    r"(?P<topic>[^/]+)/dt=(?P<day>\d{4}-\d\d-\d\d)/(?P<partition>\d{5,})-(?P<offset>\d{20})(-[0-9a-f]{16})?\.json"
)
_NAME = re.compile(r"([^/]+)/(\d+)/(\d+)")
# So many letters are read at once, and are in memory.
_AT_ONCE = 50
_TRIES = 5
_SNAPSHOT_BYTES_IN_MEMORY = 1_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a dead letter lies, and what its key tells; `day` is `YYYY-MM-DD`."""

    key: str
    topic: str
    day: str
    partition: int
    offset: int
    replayed: bool = False


class Position(NamedTuple):
    """Where a record stands in Kafka."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters are meant; what is None does not matter. `since` includes its day."""

    topic: str | None = None
    day: str | None = None
    since: str | None = None

    def __contains__(self, place: Place) -> bool:
        return (
            self.topic in (None, place.topic)
            and self.day in (None, place.day)
            and (self.since is None or place.day >= self.since)
        )


@dataclass(frozen=True, slots=True)
class Found:
    """A dead letter that was read; `letter` is None when it is damaged, and `reason` says how."""

    place: Place
    letter: DeadLetter | None
    reason: str


class Letters:
    """The dead letters under a prefix of a bucket.

    Every method raises what `ObjectStore` raises; reading and marking try some times before.
    """

    def __init__(self, store: ObjectStore, prefix: str, backoff: Backoff) -> None:
        self._store = store
        self._prefix = prefix
        self._backoff = backoff

    async def find(self, selection: Selection) -> AsyncIterator[Place]:
        """Places in order of their keys: topic, day, partition, offset."""
        prefix, after = self._prefix, ""
        if selection.topic is not None:
            prefix += f"/{selection.topic}"
            if selection.day is not None:
                prefix += f"/dt={selection.day}"
            elif selection.since is not None:
                after = f"{prefix}/dt={selection.since}"
        last: Place | None = None
        async for key in self._store.keys(prefix, after):
            if last is not None and key == last.key + _MARK:
                last = replace(last, replayed=True)
            elif (place := self._place(key)) is not None and place in selection:
                if last is not None:
                    yield last
                last = place
        if last is not None:
            yield last

    async def named(self, name: str) -> list[Place]:
        """The letters of a name: a key, or `topic/partition/offset`, which conflicts can share.

        Raises:
            InputError: it is no such name.
            MissingError: there is no such letter.
        """
        if position := _NAME.fullmatch(name):
            topic, partition, offset = position[1], int(position[2]), int(position[3])
            everywhere = self.find(Selection(topic=topic))
            here = (partition, offset)
            places = [place async for place in everywhere if (place.partition, place.offset) == here]
        elif place := self._place(name):
            near = self.find(Selection(topic=place.topic, day=place.day))
            places = [other async for other in near if other.key == name]
        else:
            raise InputError(
                f"{name} names no dead letter. Give topic/partition/offset, or its key as `dead-letters list "
                f"--json` prints it, which begins with {self._prefix}/."
            )
        if not places:
            raise MissingError(f"there is no dead letter {name}. See `lakefeed-consumer dead-letters list`.")
        return places

    async def read(self, places: AsyncIterable[Place], reason: str = "") -> AsyncIterator[list[Found]]:
        """Read letters in their order, a list of some at a time; those whose reason has this text in it."""
        batch: list[Place] = []
        async for place in places:
            batch.append(place)
            if len(batch) == _AT_ONCE:
                yield await self._read(batch, reason)
                batch.clear()
        yield await self._read(batch, reason)

    async def snapshot(self, selection: Selection) -> AsyncIterator[Place]:
        """What `find` tells now, whatever comes while it is taken; kept in a file.

        A letter that is replayed may become another letter, which a slower `find` would come to see.
        """
        with SpooledTemporaryFile(_SNAPSHOT_BYTES_IN_MEMORY) as file:
            async for place in self.find(selection):
                file.write(orjson.dumps(place) + b"\n")
            file.seek(0)
            for line in file:
                yield Place(**orjson.loads(line))

    async def mark(self, place: Place, position: Position) -> None:
        """Note where a letter's record was sent to; the note of an earlier time stays."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        body = orjson.dumps({"replayed_at": at, **position._asdict()})

        async def create() -> None:
            try:
                await self._store.create(place.key + _MARK, body)
            except ObjectExistsError:
                return

        await self._steadily(create)

    async def marked(self, place: Place) -> dict[str, object] | None:
        """When and where to a letter was replayed, None when it was not."""
        body = await self._steadily(lambda: self._store.read(place.key + _MARK))
        return None if body is None else orjson.loads(body)

    def _place(self, key: str) -> Place | None:
        if not key.startswith(f"{self._prefix}/"):
            return None
        fits = _LETTER.fullmatch(key, len(self._prefix) + 1)
        if fits is None:
            return None
        return Place(key, fits["topic"], fits["day"], int(fits["partition"]), int(fits["offset"]))

    async def _read(self, places: list[Place], reason: str) -> list[Found]:
        read = await asyncio.gather(*map(self._read_one, places))
        return [found for found in read if reason.casefold() in found.reason.casefold()]

    async def _read_one(self, place: Place) -> Found:
        body = await self._steadily(lambda: self._store.read(place.key))
        if body is None:
            return Found(place, None, "damaged: it was deleted meanwhile")
        try:
            letter = DeadLetter.parse(body)
        except InputError as error:
            return Found(place, None, str(error))
        return Found(place, letter, letter.reason)

    async def _steadily(self, action: Callable[[], Awaitable[T]]) -> T:
        for failures in range(1, _TRIES):
            try:
                return await action()
            except StoreUnavailableError:
                await asyncio.sleep(self._backoff.wait(failures))
        return await action()
