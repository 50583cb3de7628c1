from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count

import orjson
import pytest

from lakefeed_common.errors import InputError, MissingError
from lakefeed_consumer.backoff import Backoff
from lakefeed_consumer.dead_letters import DeadLetter
from lakefeed_consumer.letters import Found, Letters, Place, Position, Selection
from lakefeed_consumer.object_store import StoreUnavailableError
from lakefeed_consumer.record import Partition, Record, object_key
from tests.helpers.memory_store import Fault, MemoryStore

DAY_MS = 86_400_000


def letter(
    offset: int, topic: str = "t", partition: int = 0, day: int = 1, reason: str = "why"
) -> DeadLetter:
    return DeadLetter(Record(Partition(topic, partition), offset, day * DAY_MS, None, b"no"), reason)


def bucket(*letters: DeadLetter) -> MemoryStore:
    store = MemoryStore()
    for each in letters:
        store.objects[object_key("dead", each.record)] = each.body()
    return store


def over(store: MemoryStore) -> Letters:
    return Letters(store, "dead", Backoff(0.0001, 0.001))


async def found(letters: Letters, selection: Selection, reason: str = "") -> list[Found]:
    return [each async for batch in letters.read(letters.find(selection), reason) for each in batch]


async def each(places: list[Place]) -> AsyncIterator[Place]:
    for place in places:
        yield place


def test_letters_are_found_in_order_with_what_they_hold() -> None:
    held = [letter(n, topic, n % 2, day) for topic in ("a", "b") for day in (1, 2) for n in range(60)]
    store = bucket(*held)
    store.objects["dead/a/readme.txt"] = b"not ours"
    store.objects["dead/a/dt=1970-01-02/x.json"] = b"nor this"
    store.objects["deader/a/dt=1970-01-02/00000-00000000000000000000.json"] = b"nor this"

    async def scenario() -> None:
        every = await found(over(store), Selection())
        assert [each.letter for each in every] == sorted(
            held, key=lambda each: object_key("dead", each.record)
        )
        first = every[0].place
        assert first == Place(
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
        (Selection(topic="nobody"), 0),
    ],
)
def test_a_selection_is_by_topic_and_day(selection: Selection, number: int) -> None:
    store = bucket(*(letter(n, topic, day=day) for topic in "ab" for day in (1, 2, 3) for n in (1, 2)))

    async def scenario() -> None:
        places = [place async for place in over(store).find(selection)]
        assert len(places) == number
        assert all(place in selection for place in places)
        assert [place async for place in over(store).snapshot(selection)] == places

    asyncio.run(scenario())


def test_a_selection_by_reason_is_of_any_part_of_it_in_any_case() -> None:
    store = bucket(letter(1, reason="not JSON: x"), letter(2, reason="not UTF-8"), letter(3, reason="Null"))
    store.objects["dead/t/dt=1970-01-02/00000-00000000000000000004.json"] = b"{"

    async def scenario() -> None:
        for reason, offsets in {"not": [1, 2], "json": [1], "null": [3], "DAMAGED": [4], "%": []}.items():
            assert [each.place.offset for each in await found(over(store), Selection(), reason)] == offsets

    asyncio.run(scenario())


def test_a_mark_belongs_to_its_letter_alone_and_stays_as_it_was() -> None:
    store = bucket(letter(1), letter(2), letter(3))
    aside = "dead/t/dt=1970-01-02/00000-00000000000000000002-0123456789abcdef.json"
    store.objects[aside] = letter(2, reason="conflict: x").body()

    async def scenario() -> None:
        letters = over(store)
        (two,) = [place async for place in letters.find(Selection()) if place.key.endswith("2.json")]
        before = dict(store.objects)
        await letters.mark(two, Position("t", 0, 77))
        await letters.mark(two, Position("t", 0, 78))
        assert {key: store.objects[key] for key in before} == before
        marked = [place.key async for place in letters.find(Selection()) if place.replayed]
        assert marked == [two.key]
        assert [place.replayed async for place in letters.snapshot(Selection())] == [
            False,
            False,
            True,
            False,
        ]
        note = await letters.marked(two)
        assert note is not None
        assert (note["topic"], note["partition"], note["offset"]) == ("t", 0, 77)

    asyncio.run(scenario())


def test_a_snapshot_does_not_see_what_comes_while_it_is_taken() -> None:
    store = bucket(letter(1), letter(2))

    async def scenario() -> None:
        seen = []
        async for place in over(store).snapshot(Selection(topic="t")):
            seen.append(place.offset)
            again = letter(place.offset + 100)
            store.objects[object_key("dead", again.record)] = again.body()
        assert seen == [1, 2]

    asyncio.run(scenario())


def test_letters_come_as_they_are_found_however_many_there_are() -> None:
    class Endless(MemoryStore):
        async def keys(self, prefix: str, after: str = "") -> AsyncIterator[str]:
            for offset in count():
                yield object_key("dead", letter(offset).record)

        async def read(self, key: str) -> bytes | None:
            return letter(int(key[-25:-5])).body()

    async def scenario() -> None:
        letters = over(Endless())
        batch = await anext(letters.read(letters.find(Selection())))
        assert [each.letter for each in batch] == [letter(offset) for offset in range(50)]

    asyncio.run(scenario())


def test_a_letter_is_named_by_its_key_or_by_where_its_record_was() -> None:
    store = bucket(letter(7, partition=3), letter(7, day=2), letter(70))
    aside = "dead/t/dt=1970-01-02/00003-00000000000000000007-0123456789abcdef.json"
    store.objects[aside] = letter(7, partition=3).body()

    async def scenario() -> None:
        letters = over(store)
        key = "dead/t/dt=1970-01-02/00003-00000000000000000007.json"
        assert [place.key for place in await letters.named("t/3/7")] == [aside, key]
        assert [place.key for place in await letters.named(key)] == [key]
        assert [place.day for place in await letters.named("t/0/7")] == ["1970-01-03"]
        for missing in ("t/3/8", "other/3/7", key.replace("7.json", "8.json")):
            with pytest.raises(MissingError, match=f"there is no dead letter {missing}"):
                await letters.named(missing)
        for wrong in ("t", "t/3", "t/3/x", "events/t/dt=1970-01-02/00003-00000000000000000007.json", ""):
            with pytest.raises(InputError, match="names no dead letter"):
                await letters.named(wrong)

    asyncio.run(scenario())


def test_a_damaged_letter_is_told_and_the_others_are_read() -> None:
    store = bucket(letter(1), letter(2), letter(3))
    spoilt = object_key("dead", letter(2).record)
    store.objects[spoilt] = store.objects[spoilt][:-10]

    async def scenario() -> None:
        letters = over(store)
        one, two, three = await found(letters, Selection())
        assert (one.letter, three.letter) == (letter(1), letter(3))
        assert two.letter is None
        assert two.reason.startswith("damaged: ")
        del store.objects[spoilt]
        ((gone,),) = [batch async for batch in letters.read(each([two.place]))]
        assert gone.reason == "damaged: it was deleted meanwhile"

    asyncio.run(scenario())


def test_a_store_that_is_busy_is_asked_again_and_one_that_is_away_is_told() -> None:
    answers = iter([True] * 4 + [False] + [True] * 100)

    def fault(key: str) -> Fault | None:
        busy = key.endswith(".json") and next(answers)
        return StoreUnavailableError("answered 503", "slow_down") if busy else None

    async def scenario() -> None:
        store = bucket(letter(1))
        store.fault = fault
        ((only,),) = [batch async for batch in over(store).read(each([place]))]
        assert only.letter == letter(1)
        with pytest.raises(StoreUnavailableError):
            await found(over(store), Selection())

    place = Place(object_key("dead", letter(1).record), "t", "1970-01-02", 0, 1)
    asyncio.run(scenario())


def test_marks_are_json() -> None:
    store = bucket(letter(1))

    async def scenario() -> None:
        letters = over(store)
        (place,) = await letters.named("t/0/1")
        assert await letters.marked(place) is None
        await letters.mark(place, Position("other", 5, 9))
        note = orjson.loads(store.objects[f"{place.key}.replayed"])
        assert set(note) == {"replayed_at", "topic", "partition", "offset"}

    asyncio.run(scenario())
