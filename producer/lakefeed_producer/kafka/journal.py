"""Finds out which rows of a file a topic has, and detects other producers of the same file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from lakefeed_common.errors import LakefeedError
from lakefeed_producer.errors import BusyError, ChangedError
from lakefeed_producer.kafka.publication import Publication, RowsInTopic

# What to do about a file that was changed after all or some of it was published.
HOW_TO_PUBLISH_CHANGES = (
    "Restore the old content to resume it, or put the rows that are not published yet, below the header, "
    "into a file with another name"
)

Beat = Callable[[], None]

# Tolerated difference between the clocks of two computers, or of a computer and a file server.
_SLACK_MS = 10 * 60 * 1000
# How many of the topic's newest records are read however old the file is, over all partitions.
_TAIL_RECORDS = 10_000
# The requests of a killed producer have arrived when nothing has arrived for this long.
_QUIET_SECONDS = 0.5
# Rows that still arrive after this come from a running producer.
_BUSY_SECONDS = 10.0
_SLEEP_SECONDS = 0.1


class FoundRow(NamedTuple):
    """A row in the topic: the position of its record, and its headers."""

    partition: int
    offset: int
    publication: Publication
    row: int


class TopicLog(Protocol):
    """The records of a topic. Lists are indexed by partition.

    Each call may raise `UnavailableError` (no response) or `RefusedError` (this user may not read).
    """

    def bounds(self) -> tuple[list[int], list[int]]:
        """The first offsets, and the end offsets."""

    def offsets_at(self, milliseconds: int) -> list[int]:
        """The first offset with this timestamp or a later one; the end offset if there is none."""

    def read(self, begin: Sequence[int], end: Sequence[int], beat: Beat) -> Iterator[FoundRow]:
        """Yield the rows from `begin` to before `end`, each partition in order; calls `beat` often."""


class Tracker:
    """Follows one publication in the topic, before and while its rows are sent.

    Args:
        log: the topic.
        in_topic: the rows found so far.
        position: offsets up to which the topic has been read, or has no rows of the publication.
        note_done: called when the run's rows are in the topic.
    """

    def __init__(
        self,
        log: TopicLog,
        in_topic: RowsInTopic,
        position: list[int],
        note_done: Callable[[Tracker], None],
    ) -> None:
        self._log = log
        self.in_topic = in_topic
        self.start = self.end = self._position = position
        self._note_done = note_done
        self._seen = 0
        self._duplicates = 0
        self._other_publication = False

    @property
    def _name(self) -> str:
        return _shown(self.in_topic.publication.source)

    def read_back(self, quiet_seconds: float, beat: Beat) -> None:
        """Read the rows in the topic, until no more arrive.

        Raises:
            BusyError: rows keep arriving.
        """
        first, _ = self._log.bounds()
        end = time.monotonic() + _BUSY_SECONDS
        self._catch_up(beat, first)
        while True:
            _sleep(quiet_seconds, beat)
            if not self._catch_up(beat):
                break
            if time.monotonic() > end:
                raise BusyError(
                    f"{self._name} is being published by another producer: rows of it arrive in the topic. "
                    "Wait until it has finished, then run the same command again"
                )
        # Older publications of the file and earlier duplicates are not caused by a concurrent producer.
        self._seen = self._duplicates = 0
        self._other_publication = False
        self.start = self._position

    def check(self, at_least: int, at_most: int, beat: Beat) -> None:
        """Check that the topic has grown by the records of this run: `at_least` to `at_most` of them.

        Raises:
            LakefeedError: the topic has lost records.
            BusyError: another producer sent rows of the file.
        """
        _, end = self._log.bounds()
        grown = self._seen + sum(new - old for new, old in zip(end, self._position, strict=False))
        if grown < at_least:
            raise LakefeedError(
                "the topic was deleted or emptied during the run, and acknowledged events are lost. "
                "Run the same command again: it sends the rows that are missing"
            )
        if grown == at_least == at_most:
            self.end = end
        elif grown > at_most:
            self._catch_up(beat)
            if self._duplicates or self._other_publication:
                raise BusyError(
                    f"{self._name} is being published by another producer too, and the topic may have "
                    "duplicate rows. Let only one producer publish a file"
                )

    def done(self) -> None:
        """Note that this run's rows are in the topic, so that they need not be read back."""
        self._note_done(self)

    def _catch_up(self, beat: Beat, first: Sequence[int] = ()) -> int:
        """Read what is new; returns the number of records of this publication."""
        publication, rows = self.in_topic.publication, self.in_topic.rows
        _, end = self._log.bounds()
        count = 0
        for found in self._log.read(self._position, end[: len(self._position)], beat):
            if found.publication != publication:
                self._other_publication |= found.publication.source == publication.source
                continue
            count += 1
            if first and first[found.partition] == found.offset > 0:
                self.in_topic.deleted[found.partition] = found.row
            if found.row < len(rows):
                self._duplicates += int(rows[found.row])
                rows[found.row] = True
        self._position = end
        self._seen += count
        return count


class Journal:
    """Knows which files a topic has. Each part of the topic is read at most once.

    Args:
        log: the topic.
        quiet_seconds: how long no record must arrive until the topic counts as quiet.
    """

    def __init__(self, log: TopicLog, quiet_seconds: float = _QUIET_SECONDS) -> None:
        self._log = log
        self._quiet_seconds = quiet_seconds
        self._opened = time.monotonic()
        self._latest: dict[bytes, Publication] = {}
        self._from: list[int] = []
        self._to: list[int] = []

    def begin(self, source: bytes, sha256: str, rows: int) -> Tracker:
        """Start a new publication, whatever the topic has."""
        _, end = self._log.bounds()
        publication = Publication.new(source, sha256, len(end), time.time_ns() // 1_000_000)
        return Tracker(self._log, RowsInTopic.none(publication, rows), end, self._note_done)

    def resume(self, source: bytes, sha256: str, mtime_ns: int, rows: int, beat: Beat) -> Tracker:
        """Resume a file's publication, or start one if the topic has no rows of the file.

        Args:
            source: name of the file.
            sha256: of its content.
            mtime_ns: when the content was last changed; older parts of the topic are not read.
            rows: data rows of the file.
            beat: called often; may raise to stop.

        Raises:
            ChangedError: the latest publication under this name has different content.
            BusyError: rows of the file are arriving.
        """
        latest = self._find(source, mtime_ns // 1_000_000, beat)
        if latest is None:
            return self.begin(source, sha256, rows)
        if not latest.is_of(sha256):
            began = datetime.fromtimestamp(latest.began / 1000, UTC)
            raise ChangedError(
                f"{_shown(source)}: its content differs from what was published under this name at "
                f"{began:%Y-%m-%d %H:%M:%S} UTC. {HOW_TO_PUBLISH_CHANGES}"
            )
        first, _ = self._log.bounds()
        dated = self._log.offsets_at(latest.began - _SLACK_MS)
        begin = list(map(max, first, dated))
        tracker = Tracker(self._log, RowsInTopic.none(latest, rows), begin, self._note_done)
        tracker.read_back(self._quiet_seconds, beat)
        return tracker

    def _note_done(self, tracker: Tracker) -> None:
        """Note what was just published: unless other producers wrote to the topic, it need not be read."""
        self._note(tracker.in_topic.publication)
        if tracker.start == self._to:
            self._to = tracker.end

    def _find(self, source: bytes, modified_ms: int, beat: Beat) -> Publication | None:
        # A killed producer's requests in flight may be the first rows of the file in the topic.
        _sleep(self._opened + self._quiet_seconds - time.monotonic(), beat)
        first, end = self._log.bounds()
        if len(self._to) != len(end) or any(map(int.__gt__, self._to, end)):
            # Not read yet, or partitions were added, or the topic was recreated.
            self._latest.clear()
            self._from, self._to = end, end
        self._scan(self._to, end, beat)
        self._to = end
        self._scan_back([high - _TAIL_RECORDS // len(end) for high in end], first, beat)
        if source not in self._latest:
            self._scan_back(self._log.offsets_at(modified_ms - _SLACK_MS), first, beat)
        return self._latest.get(source)

    def _scan_back(self, wanted: Sequence[int], first: Sequence[int], beat: Beat) -> None:
        begin = [max(low, min(pair)) for low, *pair in zip(first, wanted, self._from, strict=True)]
        self._scan(begin, self._from, beat)
        self._from = begin

    def _scan(self, begin: Sequence[int], end: Sequence[int], beat: Beat) -> None:
        for found in self._log.read(begin, end, beat):
            self._note(found.publication)

    def _note(self, publication: Publication) -> None:
        known = self._latest.get(publication.source)
        if known is None or known.began <= publication.began:
            self._latest[publication.source] = publication


def _shown(source: bytes) -> str:
    """A file's name for a message, with an escape for each byte that is not UTF-8."""
    return source.decode("utf-8", "backslashreplace")


def _sleep(seconds: float, beat: Beat) -> None:
    end = time.monotonic() + seconds
    beat()
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _SLEEP_SECONDS))
        beat()
