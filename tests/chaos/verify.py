"""Counts what a run has lost, doubled or altered. Pure: it is given everything that was read back."""

from __future__ import annotations

import re
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

RowId = tuple[str, int]
"""The `source` and `row` headers of a record."""

_EXAMPLES = 10
# A worker that has lost a partition ends the puts that it had begun: by then another one may have committed.
_LAST_PUTS_SECONDS = 10.0
_OBJECT = re.compile(r"/(\d{5})-(\d{20})\.json(?:\.gz)?$")


@dataclass(frozen=True)
class Entry:
    """One record as Kafka has it."""

    partition: int
    offset: int
    timestamp_ms: int
    row: RowId
    value: bytes | None

    @property
    def day(self) -> str:
        """The UTC day of its timestamp."""
        return datetime.fromtimestamp(self.timestamp_ms / 1000, UTC).date().isoformat()

    def key(self, prefix: str, topic: str) -> str:
        """The object's key by the contract, written down here once more on purpose."""
        return f"{prefix}/{topic}/dt={self.day}/{self.partition:05d}-{self.offset:020d}.json"


@dataclass
class Verdict:
    """What was found; the promise is kept when all counts of `wrong` are 0.

    Attributes:
        records: records in Kafka.
        rows: rows that have a record, each counted once.
        stored: records that are stored as events: each in an object of its own, or in a batch.
        dead_letters: records that are stored as such.
        batches: batch objects.
        table_rows: rows of the Iceberg table.
        wrong: by kind: `lost`, `duplicated`, `altered`, `misordered`, `uncommitted`, `reread_committed`, and
            of the table `table_lost`, `table_doubled`, `table_altered`.
        examples: the first cases of each kind, in words.
    """

    records: int = 0
    rows: int = 0
    stored: int = 0
    dead_letters: int = 0
    batches: int = 0
    table_rows: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing was found."""
        return not any(self.wrong.values())

    def note(self, kind: str, what: str) -> None:
        """Count one case."""
        self.wrong[kind] += 1
        if self.wrong[kind] <= _EXAMPLES:
            self.examples.append(f"{kind}: {what}")


def verify(
    topic: str,
    *,
    events: Mapping[RowId, Any],
    broken: Mapping[RowId, bytes | None],
    records: Iterable[Entry],
    bucket: Mapping[str, bytes],
    verdict: Verdict | None = None,
) -> Verdict:
    """Compare rows, records and objects one by one.

    Args:
        topic: name of the topic.
        events: what the event of each CSV row must say.
        broken: values of the records that are not valid events, and belong to the dead letters.
        records: all records of the topic, in offset order for each partition.
        bucket: all objects of the bucket, with the events of batches as objects of their own.
        verdict: to add to.
    """
    verdict = verdict or Verdict()
    left = dict(bucket)
    seen: set[RowId] = set()
    last: dict[tuple[int, str], int] = {}
    for record in records:
        verdict.records += 1
        where = f"row {record.row} at {record.partition}/{record.offset}"
        if record.row in seen:
            verdict.note("duplicated", f"{where} is a second record of this row")
        elif record.row not in events and record.row not in broken:
            verdict.note("duplicated", f"{where} is a record of no row")
        seen.add(record.row)
        source, number = record.row
        if record.row in events and number <= last.get((record.partition, source), -1):
            verdict.note("misordered", f"{where} comes after row {last[record.partition, source]}")
        last[record.partition, source] = number
        _compare_with_row(record, events, broken, where, verdict)
        _compare_with_object(record, topic, left, record.row in broken, where, verdict)
    for row in (events.keys() | broken.keys()) - seen:
        verdict.note("lost", f"row {row} has no record")
    verdict.rows = len(seen)
    for key in left:
        verdict.note("duplicated", f"{key} belongs to no record, or to one that is stored elsewhere as well")
    return verdict


def _compare_with_row(
    record: Entry,
    events: Mapping[RowId, Any],
    broken: Mapping[RowId, bytes | None],
    where: str,
    verdict: Verdict,
) -> None:
    if record.row in broken:
        same = record.value == broken[record.row]
    elif record.row in events:
        same = _parsed(record.value) == events[record.row]
    else:
        return
    if not same:
        verdict.note("altered", f"{where} is not what its row says: {record.value!r}")


def _compare_with_object(
    record: Entry, topic: str, left: dict[str, bytes], is_broken: bool, where: str, verdict: Verdict
) -> None:
    """Take a record's object out of those that are left."""
    key = record.key("dead-letters" if is_broken else "events", topic)
    body = left.pop(key, None)
    if body is None:
        verdict.note("lost", f"{where} is not stored: there is no {key}")
        return
    if is_broken:
        verdict.dead_letters += 1
        same = _letter_holds(body, record)
    else:
        verdict.stored += 1
        same = body == record.value
    if not same:
        verdict.note("altered", f"{key} does not hold the value of {where}: {body!r}")


def _letter_holds(body: bytes, record: Entry) -> bool:
    letter = _parsed(body)
    if not isinstance(letter, dict) or not letter.get("reason"):
        return False
    value = letter.get("value")
    return (
        (letter.get("partition"), letter.get("offset")) == (record.partition, record.offset)
        and (None if value is None else b64decode(value)) == record.value
    )  # fmt: skip


def _parsed(body: bytes | None) -> Any:
    try:
        return orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        return None


def compare_offsets(committed: Mapping[int, int], ends: Mapping[int, int], verdict: Verdict) -> None:
    """Note each partition whose committed offset is not the end of its log."""
    for partition, end in ends.items():
        if committed.get(partition, 0) != end:
            verdict.note("uncommitted", f"partition {partition}: {committed.get(partition)} of {end}")


def check_rereads(
    repeated: Iterable[tuple[float, str]],
    commits: Iterable[tuple[float, Mapping[int, int]]],
    verdict: Verdict,
) -> None:
    """Note each event that was read again although its offset was committed: only those in flight may be.

    Args:
        repeated: when each put of an object that was stored before arrived, in seconds, and the object's key.
        commits: the group's committed offset of each partition at a time in seconds, in order of time.
    """
    seen = list(commits)
    for at, key in repeated:
        found = _OBJECT.search(key)
        if found is None:
            continue
        partition, offset = int(found[1]), int(found[2])
        known = [committed.get(partition, 0) for when, committed in seen if when < at - _LAST_PUTS_SECONDS]
        if offset < max(known, default=0):
            verdict.note(
                "reread_committed", f"{key} was put again, and {max(known)} was committed long before"
            )
