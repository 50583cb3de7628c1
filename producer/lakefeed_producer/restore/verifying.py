"""The dry run: what would be restored, by the metadata of the objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from lakefeed_common.errors import InputError
from lakefeed_common.lake.metadata import BatchMetadata
from lakefeed_common.lake.records import Partition
from lakefeed_producer.restore.bodies import Event
from lakefeed_producer.restore.chain import Chain, Span
from lakefeed_producer.restore.objects import Found
from lakefeed_producer.restore.prefetch import prefetched
from lakefeed_producer.restore.reading import Reading, describe
from lakefeed_producer.restore.store import Fetched


def verify(reading: Reading, positions: Mapping[int, int], beat: Callable[[], None]) -> Iterator[str]:
    """Look at the metadata of every object that is to be restored; yields a line for each partition.

    Args:
        reading: what is read; its findings count what is found.
        positions: what the target has already; see `Tail`.
        beat: called often; may raise to stop.

    Raises:
        InputError: what would end the restore.
    """
    inventory = reading.inventory
    for number in inventory.partitions:
        selected = [found for found in inventory.objects(number) if found.selected]
        fetch = partial(reading.head, number)
        chain, records = Chain(), 0
        for found, fetched in prefetched(selected, fetch, reading.pool):
            beat()
            records += _check(reading, number, chain, found, fetched)
        span = f"offsets from {selected[0].offset:,} on" if selected else "no objects of these days"
        resumed = f", to be resumed at {positions[number]:,}" if number in positions else ""
        yield f"partition {number}: {len(selected):,} objects, {records:,} records, {span}{resumed}"


def _check(reading: Reading, number: int, chain: Chain, found: Found, fetched: Fetched) -> int:
    """Check one object; returns how many records it has."""
    key = reading.key(number, found)
    about: BatchMetadata | Event
    try:
        if found.batch:
            about = BatchMetadata.parse(fetched.metadata)
        else:
            about = Event.of(Partition(reading.inventory.topic, number), found, fetched)
    except InputError as error:
        reading.findings.damage(f"{key}: {error}")
        chain.leave_out()
        return 0
    if isinstance(about, Event):
        span = Span(found.offset, found.offset + 1)
        if chain.overlap(span) is not None:
            # A batch has it.
            return 0
        chain.advance(span, batch=False)
        if not about.has_metadata:
            reading.findings.no_metadata(key)
        reading.findings.omitted += bool(about.omitted)
        return 1
    if (hole := chain.hole_before(found)) is not None:
        reading.findings.hole(describe(hole, reading, number, key))
    chain.advance(Span(found.offset, about.end), batch=True)
    return about.records
