"""The chain of a partition's batches: what the next one is, and what an answer to its put means. No I/O.

A batch has its start in its key and its end in the metadata. It is created only if the key has no object
yet, so whatever two workers do, one batch starts at a position, and both continue where that one ends. The
reasons are in docs/decisions/0060-batches-are-a-chain.md.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from lakefeed_common.errors import InputError
from lakefeed_common.lake.lines import KAFKA_FIELD, from_line, to_line
from lakefeed_common.lake.metadata import hash_of
from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.dead_letters.format import DeadLetter
from lakefeed_consumer.dead_letters.validation import invalid_reason
from lakefeed_consumer.sink.batches.batch import Batch, Stamp, batch_metadata

_DAY_MS = 86_400_000
# What a dead letter takes in memory in addition to its value, roughly.
_RECORD_BYTES = 500


@dataclass(frozen=True, slots=True)
class Limits:
    """A batch ends when it has at least this many bytes of lines, or this many records."""

    size: int
    records: int


@dataclass(slots=True)
class _Run:
    """Records of one day that become a batch, or several if another worker has stored some of them.

    Attributes:
        day: days since 1970, as the timestamps have it.
        end: the position after the last record.
        size: bytes, roughly.
    """

    day: int
    end: int = 0
    size: int = 0
    lines: list[bytes] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    stamps: list[Stamp] = field(default_factory=list)

    @property
    def records(self) -> int:
        return len(self.lines) + len(self.dead_letters)

    def first(self, topic: str) -> Record:
        candidates = [each.record for each in self.dead_letters[:1]]
        candidates += [from_line(topic, line) for line in self.lines[:1]]
        return min(candidates, key=lambda record: record.offset)

    def drop_before(self, position: int, topic: str) -> Dropped:
        """Drop the records before a position."""
        lines = bisect_left(self.lines, position, key=lambda line: from_line(topic, line).offset)
        dead = bisect_left(self.dead_letters, position, key=lambda each: each.record.offset)
        size = sum(map(len, self.lines[:lines])) + sum(map(_size, self.dead_letters[:dead]))
        self.size -= size
        del self.lines[:lines], self.dead_letters[:dead]
        return Dropped(lines, dead)


class Dropped(NamedTuple):
    """How many records a chain no longer holds, as they are stored."""

    events: int
    dead_letters: int


class Answer(NamedTuple):
    """What the answer to a put means.

    Attributes:
        outcome: `stored`; `adopted`, the key has a batch of the same records, and the chain continues behind
            that; `conflict`, it has other records, and so this batch is put again as a conflict.
        dropped: records that are stored now.
    """

    outcome: Literal["stored", "adopted", "conflict"]
    dropped: Dropped


class Chain:
    """The batches of one partition during one assignment.

    Args:
        partition: of the records.
        position: where the chain continues: the committed offset, or 0 without one.
        limits: what ends a batch.

    Attributes:
        position: where the next batch starts; everything before it is stored.
        last: the last offset taken; -1 before the first.
        records, size: how many records, and about how many bytes, are taken and not stored yet.
        opened: how many runs were opened: it tells one from the next.
        anchored: whether the position is known not to be within a batch, as it can be if someone has set the
            group's offset.
        ended: whether the partition was revoked, or is read again.
    """

    __slots__ = (
        "_conflict",
        "_limits",
        "_open",
        "_sealed",
        "anchored",
        "ended",
        "last",
        "opened",
        "partition",
        "position",
    )

    def __init__(self, partition: Partition, position: int, limits: Limits) -> None:
        self.partition = partition
        self.position = position
        self.last = -1
        self.opened = 0
        self.anchored = position == 0
        self.ended = False
        self._limits = limits
        self._open: _Run | None = None
        self._sealed: deque[_Run] = deque()
        self._conflict = False

    @property
    def records(self) -> int:
        """See the class."""
        return sum(run.records for run in self._runs())

    @property
    def size(self) -> int:
        """See the class."""
        return sum(run.size for run in self._runs())

    @property
    def open_size(self) -> int:
        """How many bytes the batch has that has not ended yet."""
        return self._open.size if self._open is not None else 0

    @property
    def is_open(self) -> bool:
        """Whether there is a batch that has not ended yet."""
        return self._open is not None

    def _runs(self) -> list[_Run]:
        return [*self._sealed, self._open] if self._open is not None else [*self._sealed]

    # ---- records ------------------------------------------------------------------------------------

    def take(self, records: Sequence[Record]) -> list[DeadLetter]:
        """Take records that follow those taken before; returns those that are not valid events.

        Raises:
            ValueError: the first offset is not greater than the last one.
        """
        if records[0].offset <= self.last:
            raise ValueError(f"offset {records[0].offset} after {self.last}")
        self.last = records[-1].offset
        if records[0].offset < self.position:
            # Another worker's batch, which was adopted, has them.
            records = [record for record in records if record.offset >= self.position]
        dead_letters: list[DeadLetter] = []
        rest = records
        while rest:
            run = self._run_of(rest[0])
            before = len(run.dead_letters)
            rest = rest[self._fill(run, rest) :]
            dead_letters += run.dead_letters[before:]
        return dead_letters

    def _run_of(self, record: Record) -> _Run:
        day, run = record.timestamp_ms // _DAY_MS, self._open
        if run is None or run.day != day:
            self.seal()
            run = self._open = _Run(day)
            self.opened += 1
        return run

    def _fill(self, run: _Run, records: Sequence[Record]) -> int:
        """Add records until the run ends; returns how many."""
        append, size = run.lines.append, run.size
        room = self._limits.records - run.records
        first_ms, last_ms = run.day * _DAY_MS, (run.day + 1) * _DAY_MS
        count = 0
        for record in records[:room]:
            if not first_ms <= record[2] < last_ms:
                break
            value = record[4]
            reason = invalid_reason(value, KAFKA_FIELD)
            if reason is None and value is not None:
                line = to_line(record, value)
                append(line)
                size += len(line)
            else:
                run.dead_letters.append(DeadLetter(record, reason or "null value"))
                size += _size(run.dead_letters[-1])
            count += 1
            if size >= self._limits.size:
                break
        run.size = size
        run.end = records[count - 1].offset + 1
        run.stamps.append(Stamp(records[0].timestamp_ms, count))
        if size >= self._limits.size or count == room:
            self.seal()
        return count

    def seal(self) -> None:
        """End the open batch: it is the next one to put, after those that ended before."""
        if self._open is not None:
            self._sealed.append(self._open)
            self._open = None

    def end(self) -> None:
        """End the chain and drop what it holds: the partition was revoked, or is read again."""
        self.ended = True
        self._open = None
        self._sealed.clear()

    # ---- puts ---------------------------------------------------------------------------------------

    def next(self) -> Batch | None:
        """The batch to put, the same until its put is answered; None if none has ended."""
        if not self._sealed:
            return None
        run, topic = self._sealed[0], self.partition.topic
        return Batch(
            self.partition,
            self.position,
            run.end,
            run.first(topic),
            run.lines,
            run.dead_letters,
            run.stamps,
            self._conflict,
        )

    def anchor(self, end: int | None) -> Answer | None:
        """Continue behind a batch that has the next events already and ends there; None: there is none."""
        self.anchored = True
        return None if end is None else Answer("adopted", self._advance(end))

    def answer(self, batch: Batch, existing: Mapping[str, str] | None) -> Answer:
        """Continue after the put of the next batch.

        Args:
            batch: from `next`.
            existing: metadata of the object that its key has had before; None if the put created it.

        Raises:
            InputError: the key of a conflict has an object that is not a batch.
        """
        if existing is None:
            return Answer("conflict" if batch.conflict else "stored", self._advance(batch.end))
        end = _end_of_same(batch, existing)
        if end is not None:
            return Answer("adopted", self._advance(end))
        if batch.conflict:
            raise InputError(
                f"{batch.partition.topic}, partition {batch.partition.number}: the object that should hold "
                f"the conflict at {batch.start} is not a batch. Find out what wrote it, and move it away"
            )
        self._conflict = True
        return Answer("conflict", Dropped(0, 0))

    def _advance(self, position: int) -> Dropped:
        self.position = position
        self._conflict = False
        dropped: list[Dropped] = []
        for run in self._runs():
            if run.end <= position:
                dropped.append(Dropped(len(run.lines), len(run.dead_letters)))
            else:
                dropped.append(run.drop_before(position, self.partition.topic))
        while self._sealed and self._sealed[0].end <= position:
            self._sealed.popleft()
        if self._open is not None and self._open.end <= position:
            self._open = None
        return Dropped(sum(each.events for each in dropped), sum(each.dead_letters for each in dropped))


def _end_of_same(batch: Batch, existing: Mapping[str, str]) -> int | None:
    """Where an existing batch ends, if it has the same first record; None otherwise."""
    metadata = batch_metadata(existing)
    if metadata is None:
        return None
    same = metadata.first_hash == hash_of(batch.first) and metadata.end > batch.start
    return metadata.end if same else None


def _size(dead_letter: DeadLetter) -> int:
    return len(dead_letter.record.value or b"") + _RECORD_BYTES
