"""Finds the objects of a topic in the bucket and reads their lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

from lakefeed_analytics.edge import explained
from lakefeed_analytics.iceberg.chain import Range, Stored, Watermark, follow
from lakefeed_analytics.iceberg.rows import Lines
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common.errors import InputError, MissingError, UnavailableError
from lakefeed_common.lake import batches
from lakefeed_common.lake.keys import ObjectKey, folder
from lakefeed_common.lake.lines import to_line
from lakefeed_common.lake.metadata import BatchMetadata, EventMetadata
from lakefeed_common.lake.records import Partition, Record
from lakefeed_common.tables import PARTITION_KEY

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECTIONS = 16
# One-event objects that are parsed together: how many at most, and their size.
_TOGETHER = 2000
_TOGETHER_BYTES = 16 * 2**20
_RECENT_DAYS = 3
NO_TIMESTAMP = -1
"""Timestamp of an event whose object has no metadata."""


class Source:
    """The objects of one topic."""

    def __init__(self, s3: S3Client, settings: CompactSettings, topic: str) -> None:
        self._s3 = s3
        self._settings = settings
        self._bucket = settings.bucket
        self._topic = topic
        self._place = f"s3://{settings.bucket}/{settings.batches_prefix}/{topic}/"

    def ranges(
        self,
        watermarks: Mapping[int, Watermark],
        committed: Mapping[int, int],
        *,
        accept_holes: bool = False,
    ) -> list[Range]:
        """What to read of each partition, between the table's watermarks and the committed offsets.

        Batches are looked for in the latest days first: the chain says whether older ones are needed.

        Raises:
            MissingError: there are no objects at all.
        """
        behind = {
            number: offset
            for number, offset in committed.items()
            if number not in watermarks or offset > watermarks[number].offset
        }
        if not behind:
            return []
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            days = self._days(self._settings.batches_prefix)
            event_days = self._days(self._settings.events_prefix)
            if not days and not event_days and not accept_holes:
                self._check_place(watermarks, behind)
            events = self._found(pool, self._settings.events_prefix, event_days, behind, watermarks)
            if all(number in watermarks and watermarks[number].chained for number in behind):
                recent = self._found(
                    pool, self._settings.batches_prefix, days[-_RECENT_DAYS:], behind, watermarks
                )
                found = self._follow(behind, watermarks, recent, events)
                if not any(each.hole for each in found):
                    return found
                # A late event's day is an earlier one.
            batches = self._found(pool, self._settings.batches_prefix, days, behind, watermarks)
        open_end = self._settings.layout == "objects"
        return self._follow(behind, watermarks, batches, events, open_end=open_end, accept_holes=accept_holes)

    def _check_place(self, watermarks: Mapping[int, Watermark], committed: Mapping[int, int]) -> None:
        """Check that a topic without objects can be one: committed records that are in no object are usually
        in another bucket or prefix.
        """
        if not any(committed.values()) or (not watermarks and self._has_dead_letters()):
            return
        raise MissingError(
            f"{' and '.join(self._settings.topic_locations(self._topic))} have no objects, although offsets "
            f"up to {max(committed.values())} of the topic are committed. Check LAKEFEED_BUCKET, "
            "LAKEFEED_EVENTS_PREFIX and LAKEFEED_BATCHES_PREFIX. If the objects are lost, or none of the "
            "records is an event: `lakefeed-analytics compact --accept holes`"
        )

    def _has_dead_letters(self) -> bool:
        """Whether the topic has records that are not events."""
        start = f"{self._settings.dead_letter_prefix}/{self._topic}/"
        with explained(self._settings, f"listing s3://{self._bucket}/{start}"):
            return bool(
                self._s3.list_objects_v2(Bucket=self._bucket, Prefix=start, MaxKeys=1).get("Contents")
            )

    def lines(self, objects: Sequence[Stored]) -> Iterator[tuple[Lines, int, int]]:
        """The lines of objects of one partition, in order, with the first offset to take and the one behind.

        One-event objects of a day come together. What follows is read while the caller works on what came.

        Raises:
            InputError: an object is damaged.
        """
        with ThreadPoolExecutor(CONNECTIONS) as pool, ThreadPoolExecutor(1) as ahead:
            following: Future[tuple[Lines, int, int]] | None = None
            for group in _runs(objects):
                current, following = following, ahead.submit(self._together, group, pool)
                if current:
                    yield current.result()
            if following:
                yield following.result()

    def _together(self, group: Sequence[Stored], pool: ThreadPoolExecutor) -> tuple[Lines, int, int]:
        first, last = group[0], group[-1]
        if first.batch:
            return self._batch(first), first.start, first.end
        data = b"".join(pool.map(self._event, group))
        origin = f"s3://{self._bucket}/{first.key} and following"
        return Lines(self._topic, first.day, data, len(group), origin), first.start, last.end

    def _follow(
        self,
        behind: Mapping[int, int],
        watermarks: Mapping[int, Watermark],
        batches: Mapping[int, list[Stored]],
        events: Mapping[int, list[Stored]],
        *,
        open_end: bool = False,
        accept_holes: bool = False,
    ) -> list[Range]:
        found = (
            follow(
                number,
                watermarks.get(number),
                offset,
                [*batches[number], *events[number]],
                self._place,
                open_end=open_end,
                accept_holes=accept_holes,
            )
            for number, offset in sorted(behind.items())
        )
        return [each for each in found if each is not None]

    def _days(self, prefix: str) -> list[str]:
        """The day folders of the topic, in order."""
        start = f"{prefix}/{self._topic}/{PARTITION_KEY}="
        found: list[str] = []
        with explained(self._settings, f"listing s3://{self._bucket}/{start}"):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=start, Delimiter="/"
            )
            for page in pages:
                found += (each["Prefix"].removeprefix(start)[:-1] for each in page.get("CommonPrefixes", []))
        return sorted(found)

    def _found(
        self,
        pool: ThreadPoolExecutor,
        prefix: str,
        days: Iterable[str],
        behind: Mapping[int, int],
        watermarks: Mapping[int, Watermark],
    ) -> dict[int, list[Stored]]:
        """The objects by partition, of the given days."""
        found: dict[int, list[Stored]] = defaultdict(list)
        tasks = [(day, number) for day in days for number in behind]

        def listed(task: tuple[str, int]) -> list[tuple[ObjectKey, int]]:
            day, number = task
            after = watermarks[number].offset if number in watermarks else 0
            return self._listed(prefix, day, number, after)

        def described(one: tuple[ObjectKey, int]) -> tuple[int, Stored]:
            key, size = one
            return key.partition.number, self._described(prefix, key, size)

        keys = [one for some in pool.map(listed, tasks) for one in some]
        for number, stored in pool.map(described, keys):
            found[number].append(stored)
        return found

    def _listed(self, prefix: str, day: str, number: int, watermark: int) -> list[tuple[ObjectKey, int]]:
        """Keys and sizes of a partition's objects of a day that start at the watermark or behind it."""
        start = f"{folder(prefix, self._topic, day)}{number:05d}-"
        # A batch that starts below it is needed only if its records are stored in other objects as well.
        after = f"{start}{watermark - 1:020d}~" if watermark else ""
        found: list[tuple[ObjectKey, int]] = []
        with explained(self._settings, f"listing s3://{self._bucket}/{start}"):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=start, StartAfter=after
            )
            for page in pages:
                for each in page.get("Contents", []):
                    key = ObjectKey.parse(prefix, each["Key"])
                    if key is not None:
                        found.append((key, each["Size"]))
        return found

    def _described(self, prefix: str, key: ObjectKey, size: int) -> Stored:
        text = key.text(prefix)
        if not key.batch:
            return Stored(key.offset, key.offset + 1, text, key.day, size, batch=False, first=key.offset)
        with explained(self._settings, f"reading the metadata of s3://{self._bucket}/{text}"):
            answer = self._s3.head_object(Bucket=self._bucket, Key=text)
        try:
            about = BatchMetadata.parse(answer["Metadata"])
        except InputError:
            # boto3 does not notice that a response was cut within its head, unless a body has to follow.
            about = self._parsed(text, self._body(text)[1])
        stored = Stored(key.offset, about.end, text, key.day, size, batch=True, first=key.offset)
        return stored._replace(sha256=about.sha256, records=about.records)

    def _body(self, key: str) -> tuple[bytes, Mapping[str, str]]:
        with explained(self._settings, f"reading s3://{self._bucket}/{key}"):
            answer: Any = self._s3.get_object(Bucket=self._bucket, Key=key)
            with closing(answer["Body"]) as stream:
                return stream.read(), answer["Metadata"]

    def _batch(self, stored: Stored) -> Lines:
        origin = f"s3://{self._bucket}/{stored.key}"
        body, metadata = self._body(stored.key)
        about = self._parsed(stored.key, metadata)
        if (about.end, about.records, about.sha256) != (stored.end, stored.records, stored.sha256):
            raise UnavailableError(f"{origin}: a response was cut: its metadata was read in two versions")
        try:
            data = batches.decompressed(body, about)
        except InputError as error:
            raise InputError(f"{origin}: {error}") from error
        return Lines(self._topic, stored.day, data, stored.records, origin)

    def _parsed(self, key: str, metadata: Mapping[str, str]) -> BatchMetadata:
        try:
            return BatchMetadata.parse(metadata)
        except InputError as error:
            raise InputError(f"s3://{self._bucket}/{key}: {error}") from error

    def _event(self, stored: Stored) -> bytes:
        body, metadata = self._body(stored.key)
        parsed = ObjectKey.parse(self._settings.events_prefix, stored.key)
        assert parsed is not None  # noqa: S101 - it was listed so
        try:
            about = EventMetadata.parse(metadata)
        except InputError:
            # Objects of before the metadata.
            about = EventMetadata(NO_TIMESTAMP, None, (), ())
        place = Partition(self._topic, parsed.partition.number)
        return to_line(Record(place, stored.first, about.timestamp_ms, None, body), body)


def _runs(objects: Iterable[Stored]) -> Iterator[list[Stored]]:
    """Objects that are read together: a batch, or one-event objects of a day."""
    run: list[Stored] = []
    size = 0
    for each in objects:
        size += each.size
        if run and (
            each.batch
            or run[0].batch
            or each.day != run[0].day
            or len(run) == _TOGETHER
            or size > _TOGETHER_BYTES
        ):
            yield run
            run, size = [], each.size
        run.append(each)
    if run:
        yield run
