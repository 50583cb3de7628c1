"""The dry run: what would be restored, by the metadata of the objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from lakefeed_common.errors import InputError
from lakefeed_common.lake.metadata import BatchMetadata, EventMetadata
from lakefeed_producer.restore.chain import Chain, Span
from lakefeed_producer.restore.objects import Found
from lakefeed_producer.restore.prefetch import prefetched
from lakefeed_producer.restore.reading import Reading
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
        fetch = partial(_head, reading, number)
        chain, records = Chain(), 0
        for found, fetched in prefetched(selected, fetch, reading.pool):
            beat()
            records += _check(reading, number, chain, found, fetched)
        span = f"offsets from {selected[0].offset:,} on" if selected else "no objects of these days"
        resumed = f", to be resumed at {positions[number]:,}" if number in positions else ""
        yield f"partition {number}: {len(selected):,} objects, {records:,} records, {span}{resumed}"


def _head(reading: Reading, number: int, found: Found) -> Fetched:
    return reading.store.head(reading.inventory.key(number, found))


def _check(reading: Reading, number: int, chain: Chain, found: Found, fetched: Fetched) -> int:
    """Check one object; returns how many records it has."""
    key = reading.key(number, found)
    try:
        if not reading.inventory.batches:
            return _check_event(reading, key, fetched)
        metadata = BatchMetadata.parse(fetched.metadata)
    except InputError as error:
        reading.findings.damage(f"{key}: {error}")
        return 0
    span = Span(found.offset, metadata.end)
    hole = chain.hole_before(span)
    if hole is not None and not reading.inventory.has_other_day(number, hole.start):
        reading.findings.hole(
            f"partition {number}: the batch with the offsets {hole} is missing before {key}"
        )
    chain.advance(span)
    return metadata.records


def _check_event(reading: Reading, key: str, fetched: Fetched) -> int:
    if not any(name.startswith("lakefeed-") for name in fetched.metadata):
        reading.findings.no_metadata(key)
    elif EventMetadata.parse(fetched.metadata).omitted:
        reading.findings.omitted += 1
    return 1
