"""Reads the records of one partition from its objects: each offset once, in order, from a position on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial

from lakefeed_common.errors import InputError
from lakefeed_common.lake import batches
from lakefeed_common.lake.lines import from_line
from lakefeed_common.lake.metadata import BatchMetadata
from lakefeed_common.lake.records import Partition, Record
from lakefeed_producer.restore.bodies import Batch, Event
from lakefeed_producer.restore.chain import Chain, Span
from lakefeed_producer.restore.findings import Findings
from lakefeed_producer.restore.objects import Found, Inventory
from lakefeed_producer.restore.prefetch import prefetched
from lakefeed_producer.restore.records import Columns
from lakefeed_producer.restore.store import Fetched, Store

_EVENTS_AT_ONCE = 1_000


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
        if self.inventory.batches:
            return _Batches(self, number, Chain(position)).read()
        return self._events(number, position or 0)

    def key(self, partition: int, found: Found) -> str:
        """The address of an object, for messages."""
        return f"s3://{self.inventory.source.bucket}/{self.inventory.key(partition, found)}"

    def fetch(self, partition: int, found: Found) -> Fetched:
        """A whole object."""
        return self.store.get(self.inventory.key(partition, found))

    def _events(self, number: int, position: int) -> Iterator[Columns]:
        where = Partition(self.inventory.source.topic, number)
        wanted = (found for found in self._distinct(number) if found.selected and found.offset >= position)
        records: list[Record] = []
        for found, fetched in prefetched(wanted, partial(self.fetch, number), self.pool):
            if (record := self._record(where, found, fetched)) is not None:
                records.append(record)
            if len(records) >= _EVENTS_AT_ONCE:
                yield Columns.of(number, records)
                records = []
        if records:
            yield Columns.of(number, records)

    def _distinct(self, number: int) -> Iterator[Found]:
        """The one-event objects; two of one offset are from different topics of the same name."""
        before: Found | None = None
        for found in self.inventory.objects(number):
            if before is not None and before.offset == found.offset and before.selected and found.selected:
                raise InputError(
                    f"{self.key(number, before)} and {self.key(number, found)} have the same offset: the "
                    "topic was recreated in between. Restore the days of one of them: --since, --until"
                )
            before = found
            yield found

    def _record(self, where: Partition, found: Found, fetched: Fetched) -> Record | None:
        key = self.key(where.number, found)
        try:
            event = Event.of(where, found, fetched)
        except InputError as error:
            self.findings.damage(f"{key}: {error}")
            return None
        if not event.has_metadata:
            self.findings.no_metadata(key)
        if event.omitted:
            self.findings.omitted += 1
        return event.record


@dataclass
class _Batches:
    """Reads the batch objects of one partition.

    Attributes:
        reading: what is read.
        number: of the partition.
        chain: what was seen so far.
        last: the object that reaches furthest; None if none was read.
    """

    reading: Reading
    number: int
    chain: Chain
    last: Found | None = None
    _earlier: list[Found] = field(default_factory=list)
    _excused: set[int] = field(default_factory=set)

    def read(self) -> Iterator[Columns]:
        """The records from the chain's position on."""
        everything = list(self.reading.inventory.objects(self.number))
        # Objects of days that are not to be restored are no hole.
        self._excused = {found.offset for found in everything if not found.selected}
        selected = [found for found in everything if found.selected]
        first = first_needed([found.offset for found in selected], self.chain.position)
        # If batches overlap, an earlier one may reach further: they are read if something is missing.
        self._earlier = selected[:first]
        fetch = partial(self.reading.fetch, self.number)
        for found, fetched in prefetched(selected[first:], fetch, self.reading.pool):
            yield from self._look_back(found)
            yield from self._restore(found, fetched)

    def _look_back(self, found: Found) -> Iterator[Columns]:
        """Restore what only an object before the first one has."""
        while self._earlier and self.chain.hole_before(Span(found.offset, found.offset)):
            earlier = self._earlier.pop()
            metadata = self.reading.store.head(self.reading.inventory.key(self.number, earlier)).metadata
            if BatchMetadata.parse(metadata).end > (self.chain.position or 0):
                yield from self._restore(earlier, self.reading.fetch(self.number, earlier))

    def _restore(self, found: Found, fetched: Fetched) -> Iterator[Columns]:
        key = self.reading.key(self.number, found)
        self._check_hole(found, key)
        try:
            batch = Batch.of(found, fetched)
        except InputError as error:
            self.reading.findings.damage(f"{key}: {error}")
            self._excused.add(self.chain.position or found.offset)
            return
        if (end := self.chain.overlap(batch.span)) is not None and self.last is not None:
            self._check_same(self.last, found, batch, end)
        position = self.chain.position or 0
        try:
            for columns in batch.columns(self.reading.inventory.source.topic, self.number):
                left = columns.since(position)
                self.reading.findings.repeated += len(columns) - len(left) if self.last is not None else 0
                if len(left):
                    yield left
        except InputError as error:
            raise InputError(f"{key}: {error}") from error
        if batch.span.end >= (self.chain.position or 0):
            self.last = found
        self.chain.advance(batch.span)

    def _check_hole(self, found: Found, key: str) -> None:
        hole = self.chain.hole_before(Span(found.offset, found.offset))
        if hole is not None and hole.start not in self._excused:
            self.reading.findings.hole(
                f"partition {self.number}: the batch with the offsets {hole} is missing before {key}"
            )

    def _check_same(self, last: Found, found: Found, batch: Batch, end: int) -> None:
        """Check that an object repeats records of the one before it, and not those of a recreated topic."""
        topic = self.reading.inventory.source.topic
        before = Batch.of(last, self.reading.fetch(self.number, last))
        begin, end = max(last.offset, found.offset), min(end, before.span.end)
        if _records(topic, before, begin, end) != _records(topic, batch, begin, end):
            raise InputError(
                f"{self.reading.key(self.number, last)} and {self.reading.key(self.number, found)} hold "
                "different records for the same offsets: the topic was recreated in between. Restore the "
                "days of one of them: --since, --until"
            )


def _records(topic: str, batch: Batch, begin: int, end: int) -> list[Record]:
    """The records of a range of offsets."""
    found = []
    for lines in batches.lines_of(batch.body):
        records = [from_line(topic, line) for line in lines[:-1].split(b"\n")]
        found += [record for record in records if begin <= record.offset < end]
    return found


def first_needed(starts: Sequence[int], position: int | None) -> int:
    """The index of the last object that starts at or before the position: those before it end there too."""
    if position is None:
        return 0
    return max(0, sum(start <= position for start in starts) - 1)
