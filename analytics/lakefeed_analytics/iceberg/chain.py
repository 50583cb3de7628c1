"""Decides what a compaction reads: the objects between a table's watermark and the committed offset.

Batch objects form a chain: each starts where the one before it ends. One-event objects do not: by contract
the consumer commits an offset after everything below it is stored. A topic may have both, after its layout
changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple


class Stored(NamedTuple):
    """An object, or part of it, that holds records of one partition.

    Attributes:
        start: offset from which on it is read.
        end: offset behind its last record.
        key: of the object.
        day: of its folder.
        size: in bytes.
        batch: whether it is a batch object.
        sha256: of its body, if it is a batch; in hexadecimal digits.
        records: how many lines the whole object has.
        first: where the object itself starts.
    """

    start: int
    end: int
    key: str
    day: str
    size: int
    batch: bool
    sha256: str = ""
    records: int = 1
    first: int = 0


class Watermark(NamedTuple):
    """How far a table is in a partition.

    Attributes:
        offset: the table has everything below it.
        chained: whether it is the end of a batch: the next batch starts there.
    """

    offset: int
    chained: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """What is read of one partition.

    Attributes:
        partition: its number.
        start: the table's watermark, or the first stored offset.
        end: the watermark afterwards.
        objects: in the order of their offsets, without overlap.
        hole: what is missing behind `end`, if the chain of batches breaks there.
        accepted: what is missing between the objects or behind them, and was accepted.
    """

    partition: int
    start: int
    end: Watermark
    objects: Sequence[Stored]
    hole: str | None = None
    accepted: Sequence[str] = ()


def follow(
    partition: int,
    watermark: Watermark | None,
    committed: int,
    objects: Iterable[Stored],
    place: str,
    *,
    open_end: bool = False,
    accept_holes: bool = False,
) -> Range | None:
    """What to read of a partition, up to a hole; None if there is nothing to read and no hole.

    Args:
        partition: its number.
        watermark: the table's; None if it has nothing of the partition.
        committed: the consumer group's offset.
        objects: of the partition, in any order; only those with records at or behind the watermark count.
        place: where they are, for messages.
        open_end: whether records behind the last batch may be in no object, because the layout is now that of
            one-event objects. The table waits for the next object: it says whether the layout has changed.
        accept_holes: continue behind holes.
    """
    found = sorted(objects, key=lambda each: (each.start, not each.batch))
    if watermark is None:
        # Earlier objects may have expired.
        watermark = Watermark(min((each.start for each in found), default=committed))
    position, chained = watermark
    taken: list[Stored] = []
    holes: list[str] = []
    for each in found:
        if not position < each.end <= committed:
            continue
        # One-event objects behind a batch are there because the layout changed.
        if each.batch and chained and each.start > position:
            holes.append(_hole(partition, position, each.start, committed, place))
            if not accept_holes:
                break
        taken.append(each._replace(start=max(each.start, position)))
        position, chained = each.end, each.batch
    else:
        # A batch that ends behind the committed offset is taken once its end is committed.
        later = [each.start for each in found if each.batch and each.end > committed]
        end = min([committed, *later])
        if chained and position < end and (later or accept_holes or not open_end):
            holes.append(_hole(partition, position, end, committed, place))
        if accept_holes or not chained:
            # What remains otherwise are records that are not events, and the ends of transactions.
            position = max(position, end)
    if position == watermark.offset and not holes:
        return None
    read = Range(partition, watermark.offset, Watermark(position, chained), taken)
    return replace(read, accepted=holes) if accept_holes else replace(read, hole=next(iter(holes), None))


def _hole(partition: int, start: int, end: int, committed: int, place: str) -> str:
    return (
        f"{place}: no batch of partition {partition} holds the offsets from {start} up to {end - 1}, which "
        f"are below the committed offset {committed}"
    )


def split(ranges: Iterable[Range], most_bytes: int, most_objects: int) -> Iterator[list[Range]]:
    """Ranges in parts of a size, each of which moves watermarks forward."""
    part: list[Range] = []
    size = count = 0
    for each in ranges:
        start, taken = each.start, []
        for stored in each.objects:
            taken.append(stored)
            size, count = size + stored.size, count + 1
            if size >= most_bytes or count >= most_objects:
                mark = each.end if stored is each.objects[-1] else Watermark(stored.end, stored.batch)
                yield [*part, Range(each.partition, start, mark, taken)]
                part, start, taken, size, count = [], mark.offset, [], 0, 0
        if start < each.end.offset:
            part.append(Range(each.partition, start, each.end, taken))
    if part:
        yield part
