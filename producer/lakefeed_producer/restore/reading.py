"""Reads the records of one partition from its objects: each offset once, in order, from a position on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial

from lakefeed_common.errors import InputError
from lakefeed_common.lake import batches
from lakefeed_common.lake.lines import from_line
from lakefeed_common.lake.metadata import BatchMetadata
from lakefeed_common.lake.records import Partition, Record
from lakefeed_producer.restore.bodies import Batch, Event
from lakefeed_producer.restore.chain import Chain, Hole, Span
from lakefeed_producer.restore.findings import Findings
from lakefeed_producer.restore.objects import Found, Inventory
from lakefeed_producer.restore.prefetch import prefetched
from lakefeed_producer.restore.records import Columns
from lakefeed_producer.restore.store import Fetched, Store

_EVENTS_AT_ONCE = 1_000
_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Reading:
    """What is read, and how.

    Attributes:
        inventory: the objects.
        store: the bucket.
        pool: threads for requests.
        findings: what a user must know.
    """

    inventory: Inventory
    store: Store
    pool: Executor
    findings: Findings

    def partition(self, number: int, position: int | None) -> Iterator[Columns]:
        """The records of a partition, from `position` on, or all.

        Raises:
            InputError: an object is damaged, or one is missing between others.
        """
        return _Partition(self, number).read(position)

    def key(self, partition: int, found: Found) -> str:
        """The address of an object, for messages."""
        return f"s3://{self.inventory.bucket}/{self.inventory.key(partition, found)}"

    def fetch(self, partition: int, found: Found) -> Fetched:
        """A whole object."""
        return self.store.get(self.inventory.key(partition, found))

    def head(self, partition: int, found: Found) -> Fetched:
        """An object without its body."""
        return self.store.head(self.inventory.key(partition, found))


@dataclass
class _Partition:
    """Reads the objects of one partition.

    Attributes:
        reading: what is read.
        number: of the partition.
        chain: what was seen so far.
        last: the object that reaches furthest; None if none was read.
    """

    reading: Reading
    number: int
    chain: Chain = field(default_factory=Chain)
    last: Found | None = None
    _earlier: list[Found] = field(default_factory=list)
    _held: tuple[Found, Mapping[int, Record], int] | None = None

    def read(self, position: int | None) -> Iterator[Columns]:
        """The records from a position on."""
        wanted = self._selected() if position is None else self._from(position)
        events: list[Record] = []
        for found, fetched in prefetched(wanted, partial(self.reading.fetch, self.number), self.reading.pool):
            if events and (found.batch or len(events) >= _EVENTS_AT_ONCE):
                yield Columns.of(self.number, events)
                events = []
            if found.batch:
                yield from self._look_back(found)
                yield from self._restore(found, fetched)
            elif (record := self._event(found, fetched)) is not None:
                events.append(record)
        if events:
            yield Columns.of(self.number, events)

    def _selected(self) -> Iterator[Found]:
        """The objects to restore; one-event objects of one offset are of different topics of that name."""
        before: Found | None = None
        for found in self.reading.inventory.objects(self.number):
            if not found.selected:
                continue
            if before and before.offset == found.offset and not before.batch:
                raise InputError(
                    f"{self.reading.key(self.number, before)} and {self.reading.key(self.number, found)} "
                    "have the same offset: the topic was recreated in between. Restore the days of one of "
                    "them: --since, --until"
                )
            before = found
            yield found

    def _from(self, position: int) -> Iterator[Found]:
        """The objects that may have records at or behind a position."""
        chained = True
        for found in self._selected():
            if found.batch and found.offset <= position:
                # If batches overlap, an earlier one may reach further: read if something is missing.
                self._earlier.append(found)
            chained = chained and (found.batch or found.offset != position - 1)
        self.chain = Chain(position, chained=chained)
        if self._earlier:
            yield self._earlier.pop()
        for found in self._selected():
            if found.offset > position or (found.offset == position and not found.batch):
                yield found

    def _look_back(self, found: Found) -> Iterator[Columns]:
        """Restore what only an object before the first one has."""
        while self._earlier and self.chain.hole_before(found):
            earlier = self._earlier.pop()
            metadata = self.reading.head(self.number, earlier).metadata
            if BatchMetadata.parse(metadata).end > (self.chain.position or 0):
                yield from self._restore(earlier, self.reading.fetch(self.number, earlier))

    def _event(self, found: Found, fetched: Fetched) -> Record | None:
        """The record of a one-event object; None if it is damaged, or was restored from a batch."""
        key = self.reading.key(self.number, found)
        span = Span(found.offset, found.offset + 1)
        try:
            event = Event.of(self._where, found, fetched)
        except InputError as error:
            self.reading.findings.damage(f"{key}: {error}")
            self.chain.advance(span, batch=False)
            return None
        if self.chain.overlap(span) is not None and self.last is not None:
            self._check_same(self.last, found, {found.offset: event.record}, span)
            self.reading.findings.repeated += 1
            return None
        if not event.has_metadata:
            self.reading.findings.no_metadata(key)
        if event.omitted:
            self.reading.findings.omitted += 1
        self.last = found
        self.chain.advance(span, batch=False)
        return event.record

    def _restore(self, found: Found, fetched: Fetched) -> Iterator[Columns]:
        key = self.reading.key(self.number, found)
        self._check_hole(found, key)
        try:
            batch = Batch.of(found, fetched)
        except InputError as error:
            self.reading.findings.damage(f"{key}: {error}")
            self.chain.leave_out()
            return
        if (end := self.chain.overlap(batch.span)) is not None and self.last is not None:
            records = _records(self.reading.inventory.topic, batch)
            self._check_same(self.last, found, records, Span(found.offset, end))
        position = self.chain.position or 0
        try:
            for columns in batch.columns(self.reading.inventory.topic, self.number):
                left = columns.since(position)
                self.reading.findings.repeated += len(columns) - len(left) if self.last is not None else 0
                if len(left):
                    yield left
        except InputError as error:
            raise InputError(f"{key}: {error}") from error
        if batch.span.end >= (self.chain.position or 0):
            self.last = found
        self.chain.advance(batch.span, batch=True)

    def _check_hole(self, found: Found, key: str) -> None:
        hole = self.chain.hole_before(found)
        if hole is not None:
            self.reading.findings.hole(describe(hole, self.reading, self.number, key))

    def _check_same(self, last: Found, found: Found, records: Mapping[int, Record], span: Span) -> None:
        """Check that an object repeats records of the one before it, and not those of a recreated topic.

        Args:
            last: the object before it.
            found: the object.
            records: what it holds, by offset.
            span: the offsets that were restored already.
        """
        before, end = self._held_by(last)
        offsets = range(max(last.offset, span.start), min(end, span.end))
        if any(not _is_same(before.get(at), records.get(at)) for at in offsets):
            raise InputError(
                f"{self.reading.key(self.number, last)} and {self.reading.key(self.number, found)} hold "
                "different records for the same offsets: the topic was recreated in between. Restore the "
                "days of one of them: --since, --until"
            )

    def _held_by(self, found: Found) -> tuple[Mapping[int, Record], int]:
        """The records of an object that was read before, by offset, and its end."""
        if self._held is None or self._held[0] != found:
            fetched = self.reading.fetch(self.number, found)
            if found.batch:
                batch = Batch.of(found, fetched)
                self._held = found, _records(self.reading.inventory.topic, batch), batch.span.end
            else:
                record = Event.of(self._where, found, fetched).record
                self._held = found, {found.offset: record}, found.offset + 1
        return self._held[1:]

    @property
    def _where(self) -> Partition:
        return Partition(self.reading.inventory.topic, self.number)


def describe(hole: Hole, reading: Reading, number: int, key: str) -> str:
    """What is missing before an object."""
    text = f"partition {number}: the batch with the offsets {hole} is missing before {key}"
    if len(reading.inventory.sources) > 1:
        return text
    return f"{text}. If the layout of the topic was changed in between, give the addresses of both layouts"


def _records(topic: str, batch: Batch) -> dict[int, Record]:
    """The records of a batch by offset."""
    return {
        record.offset: record
        for lines in batches.lines_of(batch.body)
        for record in (from_line(topic, line) for line in lines[:-1].split(b"\n"))
    }


def _is_same(one: Record | None, other: Record | None) -> bool:
    """Whether two objects hold the same record at an offset, or none.

    A one-event object may lack the key, the headers, and in an older version the timestamp.
    """
    if one is None or other is None:
        return one is other
    times = {one.timestamp_ms, other.timestamp_ms}
    return one.value == other.value and (len(times) == 1 or any(time % _DAY_MS == 0 for time in times))
