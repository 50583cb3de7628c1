"""What a bucket may hold, and what is refused, with the reason and what to do."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from itertools import pairwise

import pytest

from lakefeed_common.errors import InputError, LakefeedError, MissingError, SettingsError
from lakefeed_common.lake.records import Record
from lakefeed_producer.restore.findings import Findings, Risk
from lakefeed_producer.restore.objects import Days, Inventory, Listed, Source
from lakefeed_producer.restore.reading import Reading
from lakefeed_producer.restore.verifying import verify
from tests.helpers.lake_objects import (
    DAY_MS,
    START_MS,
    MemoryStore,
    Stored,
    batch,
    batches,
    event,
    some_records,
)

DAY = 86_400
"""Offsets of a day: `some_records` are a second apart."""


def listed(store: MemoryStore, *layouts: str) -> dict[Source, Iterator[Listed]]:
    """The objects of each layout; layouts are separated by a space."""
    sources = [Source("lake", layout, "prices") for layout in layouts]
    return {source: store.list(source.folder) for source in sources}


def read(
    stored: Iterable[Stored],
    *accepted: Risk,
    layout: str = "batches",
    position: int | None = None,
    days: Days = Days(),  # noqa: B008 - frozen
) -> tuple[list[int], Findings]:
    """The offsets that would be restored, and what was found; the dry run must find the same."""
    store = MemoryStore(stored)
    inventory = Inventory.of(listed(store, *layout.split()), days)
    findings = Findings(frozenset(accepted), lambda _: None)
    with ThreadPoolExecutor(2) as pool:
        reading = Reading(inventory, store, pool, findings)
        offsets = [at for some in reading.partition(0, position) for at in some.offsets.tolist()]
        looked = Findings(frozenset(accepted), lambda _: None)
        list(verify(Reading(inventory, store, pool, looked), {}, lambda: None))
    if position is None:
        assert (findings.holes, findings.values_only, findings.omitted) == (
            looked.holes,
            looked.values_only,
            looked.omitted,
        )
    return offsets, findings


def refused(stored: Iterable[Stored], layout: str = "batches") -> str:
    with pytest.raises(LakefeedError) as caught:
        read(stored, layout=layout)
    return str(caught.value)


def test_a_chain_with_gaps_in_its_offsets_is_whole() -> None:
    records = some_records([*range(5, 20), *range(30, 90, 3)])
    offsets, findings = read(batches(records, 10))
    assert offsets == [record.offset for record in records]
    assert findings.lines() == []


def test_a_missing_batch_ends_the_restore_unless_holes_are_accepted() -> None:
    records = some_records(range(40))
    stored = [one for number, one in enumerate(batches(records, 10)) if number != 2]
    text = refused(stored)
    assert "partition 0: the batch with the offsets 20 to 29 is missing before s3://lake/batches" in text
    assert "--accept holes" in text
    offsets, findings = read(stored, Risk.HOLES)
    assert offsets == [*range(20), *range(30, 40)]
    assert findings.incomplete


def test_batches_that_repeat_records_give_each_once() -> None:
    records = some_records(range(60))
    stored = [batch(records[:30]), batch(records[10:20]), batch(records[25:50]), batch(records[50:])]
    offsets, findings = read(stored)
    assert offsets == list(range(60))
    assert findings.repeated == 15
    assert not findings.incomplete


def test_a_topic_that_was_recreated_is_not_mixed_with_the_one_before_it() -> None:
    old = some_records(range(20))
    new = [one._replace(timestamp_ms=one.timestamp_ms + DAY_MS, value=b'{"new":1}') for one in old[:10]]
    assert "the topic was recreated in between" in refused([batch(old), batch(new)])
    assert "--since" in refused([batch(old), batch(new)])
    offsets, _ = read([batch(old), batch(new)], days=Days(since=date(2026, 1, 2)))
    assert offsets == list(range(10))
    assert "have the same offset" in refused([event(old[3]), event(new[3])], "events")


def damaged(records: list[Record]) -> dict[str, Stored]:
    whole = batch(records)
    lines = gzip.decompress(whole.body)
    return {
        "the SHA-256 differs": whole._replace(body=whole.body[:-1]),
        "no metadata lakefeed-end": whole._replace(metadata={}),
        "metadata is damaged": whole._replace(metadata={**whole.metadata, "lakefeed-end": "x"}),
        "before it starts": whole._replace(metadata={**whole.metadata, "lakefeed-end": "10"}),
        "a line without _kafka": resealed(whole, gzip.compress(lines + b"{}\n")),
        "its metadata says": resealed(whole, gzip.compress(lines[: lines.rindex(b"\n", 0, -1) + 1])),
        "ends in the middle": resealed(whole, whole.body[:-12]),
        "cannot be decompressed": resealed(whole, b"x" + whole.body),
        "its last line has no end": resealed(whole, gzip.compress(lines[:-1])),
        "not ascending": resealed(whole, gzip.compress(lines + lines)),
    }


def resealed(stored: Stored, body: bytes) -> Stored:
    """With the checksum of another body."""
    from hashlib import sha256

    return stored._replace(
        body=body, metadata={**stored.metadata, "lakefeed-sha256": sha256(body).hexdigest()}
    )


@pytest.mark.parametrize("reason", damaged(some_records(range(10, 20))))
def test_a_damaged_batch_ends_the_restore_with_its_key_and_the_reason(reason: str) -> None:
    records = some_records(range(30))
    stored = [batch(records[:10]), damaged(records[10:20])[reason], batch(records[20:])]
    text = refused(stored)
    assert "00000-00000000000000000010.json.gz" in text
    assert reason in text


@pytest.mark.parametrize("reason", ["the SHA-256 differs", "no metadata lakefeed-end"])
def test_a_damaged_batch_can_be_left_out(reason: str) -> None:
    records = some_records(range(30))
    stored = [batch(records[:10]), damaged(records[10:20])[reason], batch(records[20:])]
    assert "--accept damaged" in refused(stored)
    store = MemoryStore(stored)
    findings = Findings(frozenset({Risk.DAMAGED}), lambda _: None)
    with ThreadPoolExecutor(2) as pool:
        reading = Reading(Inventory.of(listed(store, "batches")), store, pool, findings)
        offsets = [at for some in reading.partition(0, None) for at in some.offsets.tolist()]
    assert offsets == [*range(10), *range(20, 30)]
    assert findings.damaged == 1


def test_a_body_of_several_gzip_members_is_read_whole() -> None:
    records = some_records(range(5000))
    whole = batch(records)
    lines = gzip.decompress(whole.body)
    cut = lines.index(b"\n", 1_000) + 1
    members = gzip.compress(lines[:cut]) + gzip.compress(lines[cut:])
    offsets, _ = read([resealed(whole, members)])
    assert offsets == list(range(5000))


def test_days_select_objects_and_the_others_are_no_holes() -> None:
    records = some_records(range(0, 4 * DAY, 3_600))
    stored = list(batches(records, 10))
    offsets, findings = read(stored, days=Days(date(2026, 1, 2), date(2026, 1, 3)))
    days = range(START_MS + DAY_MS, START_MS + 3 * DAY_MS)
    assert offsets == [record.offset for record in records if record.timestamp_ms in days]
    assert not findings.incomplete
    # A day in between that is not to be restored.
    late = [
        one._replace(timestamp_ms=one.timestamp_ms + (30 <= one.offset < 40) * 9 * DAY_MS)
        for one in some_records(range(60))
    ]
    offsets, findings = read(batches(late, 10), days=Days(until=date(2026, 1, 2)))
    assert offsets == [*range(30), *range(40, 60)]
    assert not findings.incomplete


def test_one_event_objects_have_key_headers_and_timestamp_in_their_metadata() -> None:
    records = some_records(range(2500))
    offsets, findings = read(map(event, records), layout="events")
    assert offsets == list(range(2500))
    assert not findings.incomplete


def test_an_event_without_metadata_is_restored_only_if_that_is_accepted() -> None:
    stored = [event(one)._replace(metadata={}) for one in some_records(range(3))]
    assert "--accept values-only" in refused(stored, "events")
    offsets, findings = read(stored, Risk.VALUES_ONLY, layout="events")
    assert offsets == [0, 1, 2]
    assert findings.values_only == 3
    assert findings.incomplete


def test_what_did_not_fit_into_the_metadata_is_counted() -> None:
    records = [one._replace(key=b"k" * 2_000) for one in some_records(range(3))]
    offsets, findings = read(map(event, records), layout="events")
    assert offsets == [0, 1, 2]
    assert findings.omitted == 3
    assert "too long" in findings.lines()[0]


def test_resuming_reads_nothing_before_the_object_with_the_position() -> None:
    records = some_records(range(100))
    offsets, _ = read(batches(records, 10), position=55)
    assert offsets == list(range(55, 100))
    offsets, _ = read(map(event, records), layout="events", position=55)
    assert offsets == list(range(55, 100))


def test_other_objects_under_the_prefix_are_ignored_and_two_layouts_refused() -> None:
    record = some_records([0])[0]
    conflict = Stored("batches/prices/dt=2026-01-01/00000-00000000000000000000.json.gz.conflict", b"", {})
    other = batch([record])._replace(key="batches/prices2/dt=2026-01-01/00000-00000000000000000000.json.gz")
    offsets, _ = read([batch([record]), conflict, other])
    assert offsets == [0]
    mixed = event(record)._replace(key=event(record).key.replace("events/", "batches/"))
    assert "has batch objects and one-event objects" in refused([batch([record]), mixed])


def switched(records: Sequence[Record], *starts: int) -> list[Stored]:
    """One-event objects up to the first start, batches up to the second one, and so on."""
    stored: list[Stored] = []
    for number, (begin, end) in enumerate(pairwise([0, *starts, len(records)])):
        part = records[begin:end]
        stored += batches(part, 7) if number % 2 else map(event, part)
    return stored


@pytest.mark.parametrize("layouts", ["events batches", "batches events"])
@pytest.mark.parametrize("position", [None, 0, 12, 31, 40, 58, 77, 99])
def test_a_layout_that_was_changed_several_times_is_restored_in_order(
    layouts: str, position: int | None
) -> None:
    # Offsets around the changes are dead letters.
    records = some_records([*range(5, 28), *range(31, 55), *range(58, 70), *range(72, 99)])
    offsets, findings = read(switched(records, 20, 40, 60), layout=layouts, position=position)
    assert offsets == [record.offset for record in records if record.offset >= (position or 0)]
    assert not findings.incomplete
    assert not findings.repeated


def test_a_missing_batch_of_a_changed_layout_is_a_hole_if_batches_are_around_it() -> None:
    stored = switched(some_records(range(90)), 20, 60)
    del stored[22]
    assert "the offsets 34 to 40 is missing" in refused(stored, "events batches")
    offsets, _ = read(stored, Risk.HOLES, layout="events batches")
    assert offsets == [*range(34), *range(41, 90)]
    # The other layout alone looks like one.
    whole = switched(some_records(range(90)), 20, 40, 60)
    assert "give the addresses of both layouts" in refused(whole)


def test_records_that_both_layouts_have_are_restored_once_if_they_are_the_same() -> None:
    records = some_records(range(30))
    stored = [*map(event, records[:10]), batch(records[8:20]), *map(event, records[17:])]
    offsets, findings = read(stored, layout="events batches")
    assert offsets == list(range(30))
    assert findings.repeated == 5
    later = [one._replace(timestamp_ms=one.timestamp_ms + DAY_MS + 1) for one in records]
    for other in ([*map(event, later[:10]), *stored[10:]], [*stored[:11], *map(event, later[17:])]):
        assert "the topic was recreated in between" in refused(other, "events batches")
    # Objects of an earlier version have no metadata.
    bare = [*stored[:11], *(one._replace(metadata={}) for one in stored[11:])]
    offsets, _ = read(bare, Risk.VALUES_ONLY, layout="events batches")
    assert offsets == list(range(30))


def test_an_object_without_metadata_is_named_once_by_a_dry_run() -> None:
    store = MemoryStore([event(some_records([1])[0])._replace(metadata={})])
    with ThreadPoolExecutor(2) as pool:
        reading = Reading(Inventory.of(listed(store, "events")), store, pool, Findings())
        with pytest.raises(InputError, match="--accept values-only") as caught:
            list(verify(reading, {}, lambda: None))
    assert str(caught.value).count("s3://") == 1


def test_foreign_objects_under_the_prefix_are_ignored() -> None:
    record = some_records([0])[0]
    key = event(record).key
    foreign = [key.replace("2026-01-01", "2026-13-45"), key.replace("/00000-", "/0000000000-")]
    offsets, _ = read(
        [event(record), *(event(record)._replace(key=each) for each in foreign)], layout="events"
    )
    assert offsets == [0]


@pytest.mark.parametrize(
    "wrong",
    [
        ("s3://lake/events/prices", "s3://other/batches/prices"),
        ("s3://lake/events/prices", "s3://lake/batches/trades"),
    ],
)
def test_addresses_must_be_of_one_topic_in_one_bucket(wrong: tuple[str, str]) -> None:
    with pytest.raises(SettingsError, match="of one topic in one bucket"):
        Source.all_of(wrong)
    two = {Source("lake", each, "prices"): [Listed(key(each), 1)] for each in ("events", "copies")}
    with pytest.raises(SettingsError, match="have the same layout"):
        Inventory.of(two)


def key(prefix: str) -> str:
    return event(some_records([0])[0]).key.replace("events", prefix)


def test_an_address_must_name_bucket_prefix_and_topic() -> None:
    assert Source.of("s3://lake/a/b/prices/") == Source("lake", "a/b", "prices")
    for wrong in ("lake/batches/prices", "s3://lake/prices", "s3://lake", "s3://LAKE/batches/prices"):
        with pytest.raises(SettingsError, match="s3://bucket/batches/prices"):
            Source.of(wrong)


def test_an_empty_folder_and_days_without_objects_are_missing() -> None:
    with pytest.raises(MissingError, match="has no objects of events"):
        Inventory.of({Source("lake", "batches", "prices"): []})
    with pytest.raises(MissingError, match="--since"):
        read([batch(some_records([1]))], days=Days(since=date(2027, 1, 1)))


def test_an_error_is_one_of_input() -> None:
    with pytest.raises(InputError):
        read([batch(some_records([1]))._replace(metadata={})])
