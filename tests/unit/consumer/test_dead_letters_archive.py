from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count

import orjson
import pytest

from lakefeed_common.errors import InputError, MissingError
from lakefeed_common.lake.keys import event_key
from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.backoff import Backoff
from lakefeed_consumer.dead_letters.archive import Archive, Entry, Location, Position, Selection
from lakefeed_consumer.dead_letters.format import DeadLetter
from lakefeed_consumer.object_store import StoreUnavailableError
from tests.helpers.memory_store import Fault, MemoryStore

DAY_MS = 86_400_000


def dead_letter(
    offset: int, topic: str = "t", partition: int = 0, day: int = 1, reason: str = "why"
) -> DeadLetter:
    return DeadLetter(Record(Partition(topic, partition), offset, day * DAY_MS, None, b"no"), reason)


def bucket(*dead_letters: DeadLetter) -> MemoryStore:
    store = MemoryStore()
    for each in dead_letters:
        store.objects[event_key("dead", each.record)] = each.body()
    return store


def over(store: MemoryStore) -> Archive:
    return Archive(store, "dead", Backoff(0.0001, 0.001))


async def found(archive: Archive, selection: Selection, reason: str = "") -> list[Entry]:
    return [each async for batch in archive.read(archive.find(selection), reason) for each in batch]


async def each(locations: list[Location]) -> AsyncIterator[Location]:
    for location in locations:
        yield location


def test_dead_letters_are_found_in_order_with_their_content() -> None:
    held = [dead_letter(n, topic, n % 2, day) for topic in ("a", "b") for day in (1, 2) for n in range(60)]
    store = bucket(*held)
    store.objects["dead/a/readme.txt"] = b"not ours"
    store.objects["dead/a/dt=1970-01-02/x.json"] = b"nor this"
    store.objects["deader/a/dt=1970-01-02/00000-00000000000000000000.json"] = b"nor this"

    async def scenario() -> None:
        every = await found(over(store), Selection())
        assert [each.dead_letter for each in every] == sorted(
            held, key=lambda each: event_key("dead", each.record)
        )
        first = every[0].location
        assert first == Location(
            "dead/a/dt=1970-01-02/00000-00000000000000000000.json", "a", "1970-01-02", 0, 0, False
        )

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("selection", "number"),
    [
        (Selection(), 12),
        (Selection(topic="a"), 6),
        (Selection(topic="a", day="1970-01-03"), 2),
        (Selection(day="1970-01-03"), 4),
        (Selection(since="1970-01-03"), 8),
        (Selection(topic="b", since="1970-01-03"), 4),
        (Selection(topic="b", since="1970-01-03", day="1970-01-02"), 0),
        (Selection(topic="missing"), 0),
    ],
)
def test_a_selection_is_by_topic_and_day(selection: Selection, number: int) -> None:
    store = bucket(*(dead_letter(n, topic, day=day) for topic in "ab" for day in (1, 2, 3) for n in (1, 2)))

    async def scenario() -> None:
        locations = [location async for location in over(store).find(selection)]
        assert len(locations) == number
        assert all(selection.matches(location) for location in locations)
        assert [location async for location in over(store).snapshot(selection)] == locations

    asyncio.run(scenario())


def test_a_reason_is_selected_by_any_part_of_it_in_any_case() -> None:
    store = bucket(
        dead_letter(1, reason="not JSON: x"),
        dead_letter(2, reason="not UTF-8"),
        dead_letter(3, reason="Null"),
    )
    store.objects["dead/t/dt=1970-01-02/00000-00000000000000000004.json"] = b"{"

    async def scenario() -> None:
        for reason, offsets in {"not": [1, 2], "json": [1], "null": [3], "DAMAGED": [4], "%": []}.items():
            assert [each.location.offset for each in await found(over(store), Selection(), reason)] == offsets

    asyncio.run(scenario())


def test_a_marker_belongs_to_one_dead_letter_and_is_never_changed() -> None:
    store = bucket(dead_letter(1), dead_letter(2), dead_letter(3))
    conflicting = "dead/t/dt=1970-01-02/00000-00000000000000000002-0123456789abcdef.json"
    store.objects[conflicting] = dead_letter(2, reason="conflict: x").body()

    async def scenario() -> None:
        archive = over(store)
        (two,) = [location async for location in archive.find(Selection()) if location.key.endswith("2.json")]
        before = dict(store.objects)
        await archive.mark_replayed(two, Position("t", 0, 77))
        await archive.mark_replayed(two, Position("t", 0, 78))
        assert {key: store.objects[key] for key in before} == before
        replayed = [location.key async for location in archive.find(Selection()) if location.replayed]
        assert replayed == [two.key]
        assert [location.replayed async for location in archive.snapshot(Selection())] == [
            False,
            False,
            True,
            False,
        ]
        note = await archive.replayed(two)
        assert note is not None
        assert (note["topic"], note["partition"], note["offset"]) == ("t", 0, 77)

    asyncio.run(scenario())


def test_a_snapshot_does_not_contain_what_is_added_later() -> None:
    store = bucket(dead_letter(1), dead_letter(2))

    async def scenario() -> None:
        seen = []
        async for location in over(store).snapshot(Selection(topic="t")):
            seen.append(location.offset)
            again = dead_letter(location.offset + 100)
            store.objects[event_key("dead", again.record)] = again.body()
        assert seen == [1, 2]

    asyncio.run(scenario())


def test_dead_letters_are_read_in_batches_however_many_there_are() -> None:
    class Endless(MemoryStore):
        async def keys(self, prefix: str, after: str = "") -> AsyncIterator[str]:
            for offset in count():
                yield event_key("dead", dead_letter(offset).record)

        async def read(self, key: str) -> bytes | None:
            return dead_letter(int(key[-25:-5])).body()

    async def scenario() -> None:
        archive = over(Endless())
        batch = await anext(archive.read(archive.find(Selection())))
        assert [each.dead_letter for each in batch] == [dead_letter(offset) for offset in range(50)]

    asyncio.run(scenario())


def test_a_dead_letter_is_named_by_its_key_or_its_position() -> None:
    store = bucket(dead_letter(7, partition=3), dead_letter(7, day=2), dead_letter(70))
    conflicting = "dead/t/dt=1970-01-02/00003-00000000000000000007-0123456789abcdef.json"
    store.objects[conflicting] = dead_letter(7, partition=3).body()

    async def scenario() -> None:
        archive = over(store)
        key = "dead/t/dt=1970-01-02/00003-00000000000000000007.json"
        assert [location.key for location in await archive.resolve("t/3/7")] == [conflicting, key]
        assert [location.key for location in await archive.resolve(key)] == [key]
        assert [location.day for location in await archive.resolve("t/0/7")] == ["1970-01-03"]
        for missing in ("t/3/8", "other/3/7", key.replace("7.json", "8.json")):
            with pytest.raises(MissingError, match=f"there is no dead letter {missing}"):
                await archive.resolve(missing)
        for wrong in ("t", "t/3", "t/3/x", "events/t/dt=1970-01-02/00003-00000000000000000007.json", ""):
            with pytest.raises(InputError, match="is not the name of a dead letter"):
                await archive.resolve(wrong)

    asyncio.run(scenario())


def test_a_damaged_dead_letter_is_reported_and_the_others_are_read() -> None:
    store = bucket(dead_letter(1), dead_letter(2), dead_letter(3))
    spoilt = event_key("dead", dead_letter(2).record)
    store.objects[spoilt] = store.objects[spoilt][:-10]

    async def scenario() -> None:
        archive = over(store)
        one, two, three = await found(archive, Selection())
        assert (one.dead_letter, three.dead_letter) == (dead_letter(1), dead_letter(3))
        assert two.dead_letter is None
        assert two.reason.startswith("damaged: ")
        del store.objects[spoilt]
        ((gone,),) = [batch async for batch in archive.read(each([two.location]))]
        assert gone.reason == "damaged: it was deleted meanwhile"

    asyncio.run(scenario())


def test_a_busy_store_is_retried_and_an_unreachable_one_is_an_error() -> None:
    answers = iter([True] * 4 + [False] + [True] * 100)

    def fault(key: str) -> Fault | None:
        busy = key.endswith(".json") and next(answers)
        return StoreUnavailableError("answered 503", "slow_down") if busy else None

    async def scenario() -> None:
        store = bucket(dead_letter(1))
        store.fault = fault
        ((only,),) = [batch async for batch in over(store).read(each([location]))]
        assert only.dead_letter == dead_letter(1)
        with pytest.raises(StoreUnavailableError):
            await found(over(store), Selection())

    location = Location(event_key("dead", dead_letter(1).record), "t", "1970-01-02", 0, 1)
    asyncio.run(scenario())


def test_a_marker_is_json() -> None:
    store = bucket(dead_letter(1))

    async def scenario() -> None:
        archive = over(store)
        (location,) = await archive.resolve("t/0/1")
        assert await archive.replayed(location) is None
        await archive.mark_replayed(location, Position("other", 5, 9))
        note = orjson.loads(store.objects[f"{location.key}.replayed"])
        assert set(note) == {"replayed_at", "topic", "partition", "offset"}

    asyncio.run(scenario())
