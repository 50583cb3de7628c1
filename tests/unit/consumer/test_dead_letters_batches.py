"""Batches that conflict, among the dead letters: listed with their size, and replayed record by record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from lakefeed_common.errors import InputError
from lakefeed_common.lake.lines import to_line
from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.backoff import Backoff
from lakefeed_consumer.dead_letters.archive import Archive, Entry, Position, Selection
from lakefeed_consumer.dead_letters.replay import Replayed, replay
from lakefeed_consumer.dead_letters.sender import RecordRefusedError
from lakefeed_consumer.sink.batches.batch import Batch
from tests.helpers.lake_objects import some_records
from tests.helpers.memory_store import MemoryStore

RECORDS = some_records(range(5, 45))


def conflicting(records: list[Record], start: int = 5, end: int = 50) -> Batch:
    """A batch that the consumer keeps under the dead-letter prefix."""
    lines = [to_line(record, record.value or b"") for record in records]
    first = (records or RECORDS)[0]
    return Batch(first.partition, start, end, first, lines, (), (), conflict=True)


def bucket(*batches: Batch) -> MemoryStore:
    store = MemoryStore()

    async def fill() -> None:
        for batch in batches:
            body, metadata = batch.encode()
            await store.create(batch.key("batches", "dead"), body, metadata.to_dict())

    asyncio.run(fill())
    return store


def over(store: MemoryStore) -> Archive:
    return Archive(store, "dead", Backoff(0.0001, 0.001))


async def found(archive: Archive, reason: str = "") -> list[Entry]:
    return [each async for some in archive.read(archive.find(Selection()), reason) for each in some]


class Broker:
    """Accepts records, except those of some offsets."""

    def __init__(self, *refused: int) -> None:
        self.records: list[Record] = []
        self.refused = refused

    async def send(self, topic: str, record: Record) -> Position:
        if record.offset in self.refused:
            raise RecordRefusedError("too large")
        self.records.append(record)
        return Position(topic, record.partition.number, len(self.records) - 1)


async def replayed(archive: Archive, broker: Broker, target: str | None = None) -> list[Replayed]:
    async def selected() -> AsyncIterator[list[Entry]]:
        yield [entry for entry in await found(archive) if not entry.location.replayed]

    return [each async for each in replay(archive, broker, selected(), target)]


def test_a_batch_that_conflicts_is_found_with_its_reason_and_size() -> None:
    batch = conflicting(RECORDS)
    store = bucket(batch)

    async def scenario() -> None:
        archive = over(store)
        (entry,) = await found(archive, "CONFLICT")
        assert entry.location.key == batch.key("batches", "dead")
        assert (entry.location.topic, entry.location.partition, entry.location.offset) == ("prices", 0, 5)
        assert (entry.records, entry.is_damaged) == (40, False)
        assert "40 events of offsets below 50" in entry.reason
        assert [each.key for each in await archive.resolve("prices/0/5")] == [entry.location.key]
        dead_letters = await archive.dead_letters(entry)
        assert [each.record for each in dead_letters] == RECORDS
        assert {each.reason for each in dead_letters} == {entry.reason}

    asyncio.run(scenario())


def test_its_records_are_sent_as_they_were_and_it_is_marked_once_all_are() -> None:
    store = bucket(conflicting(RECORDS))

    async def scenario() -> None:
        archive, broker = over(store), Broker()
        (done,) = await replayed(archive, broker, "prices_2")
        assert broker.records == RECORDS
        assert done.position == Position("prices_2", 0, 39)
        (entry,) = await found(archive)
        assert entry.location.replayed
        note = await archive.replayed(entry.location)
        assert note is not None
        assert (note["topic"], note["offset"]) == ("prices_2", 39)

    asyncio.run(scenario())


def test_a_batch_that_was_sent_in_part_is_reported_and_not_marked() -> None:
    other = [record._replace(partition=Partition("trades", 0)) for record in RECORDS]
    store = bucket(conflicting(RECORDS), conflicting(other))

    async def scenario() -> None:
        archive = over(store)
        first = Broker(RECORDS[7].offset)
        first_done = await replayed(archive, first)
        assert [done.position for done in first_done] == [None, None]
        assert first_done[0].entry.reason == (
            "7 of its 40 records were sent, and the next one failed: too large"
        )
        assert not any(entry.location.replayed for entry in await found(archive))
        second = Broker()
        await replayed(archive, second)
        assert second.records == RECORDS + other
        assert all(entry.location.replayed for entry in await found(archive))

    asyncio.run(scenario())


@pytest.mark.parametrize("what", ["body", "metadata", "object"])
def test_nothing_is_sent_of_a_damaged_batch(what: str) -> None:
    batch = conflicting(RECORDS)
    store, key = bucket(batch), batch.key("batches", "dead")

    async def scenario() -> None:
        archive, broker = over(store), Broker()
        if what == "body":
            store.objects[key] = store.objects[key][:-9]
        elif what == "metadata":
            del store.described[key]["lakefeed-end"]
        (entry,) = await found(archive)
        if what == "object":
            del store.objects[key], store.described[key]
        with pytest.raises(InputError, match="damaged: "):
            await archive.dead_letters(entry)
        if what != "object":
            (done,) = await replayed(archive, broker)
            assert (done.position, broker.records) == (None, [])
            assert done.entry.reason.startswith("damaged: ")

    asyncio.run(scenario())


def test_a_batch_of_dead_letters_alone_has_no_records() -> None:
    store = bucket(conflicting([]))

    async def scenario() -> None:
        archive = over(store)
        (entry,) = await found(archive)
        assert (entry.records, entry.is_damaged) == (0, False)
        assert await archive.dead_letters(entry) == []

    asyncio.run(scenario())
