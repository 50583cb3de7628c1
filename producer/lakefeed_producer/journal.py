"""Reads back from a topic which files it holds, and notices others who publish the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from lakefeed_common.errors import InputError, LakefeedError
from lakefeed_producer.arrivals import Arrivals, Publication
from lakefeed_producer.source import BusyError

# What to do about a file that was changed after it was published, wholly or in part.
KEEP_ROWS_APART = (
    "Put the old content back to go on with it, or the rows that are not published yet, below the header, "
    "into a file with another name"
)

Beat = Callable[[], None]

# Clocks of two computers, or of a computer and a file server, differ by less.
_SLACK_MS = 10 * 60 * 1000
# The newest records of the topic are read however old the file is: so many over all partitions.
_TAIL_RECORDS = 10_000
# What a killed producer had on its way is there when nothing has arrived for so long.
_QUIET_SECONDS = 0.5
# What still arrives after this comes from a producer that lives.
_BUSY_SECONDS = 10.0
_NAP_SECONDS = 0.1


class ChangedError(InputError):
    """The topic holds rows of another content of the file."""


class Found(NamedTuple):
    """What the headers of one of our records say, and where it is."""

    partition: int
    offset: int
    publication: Publication
    row: int


class TopicLog(Protocol):
    """The records of a topic. Lists go by partition.

    Each call may raise `UnavailableError` (no answer) or `RefusedError` (this user may not read).
    """

    def bounds(self) -> tuple[list[int], list[int]]:
        """The first offset, and the one behind the last."""

    def offsets_at(self, milliseconds: int) -> list[int]:
        """The first offset with this time or a later one; the end if there is none."""

    def read(self, begin: Sequence[int], end: Sequence[int], beat: Beat) -> Iterator[Found]:
        """Our records from `begin` up to before `end`, each partition in order; calls `beat` often."""


class Tracker:
    """Follows one publication in the topic, before and while its rows are sent.

    Args:
        log: the topic.
        arrivals: takes up what is found.
        position: offsets up to which the topic holds nothing of it, or has been read.
    """

    def __init__(self, log: TopicLog, arrivals: Arrivals, position: list[int]) -> None:
        self._log = log
        self.arrivals = arrivals
        self.start = self.end = self._position = position
        self._seen = 0
        self._doubled = 0
        self._rival = False

    @property
    def _name(self) -> str:
        return _shown(self.arrivals.publication.source)

    def read_back(self, quiet_seconds: float, beat: Beat) -> None:
        """Take up what has arrived, when no more does.

        Raises:
            BusyError: it does not end.
        """
        first, _ = self._log.bounds()
        end = time.monotonic() + _BUSY_SECONDS
        self._catch_up(beat, first)
        while True:
            _nap(quiet_seconds, beat)
            if not self._catch_up(beat):
                break
            if time.monotonic() > end:
                raise BusyError(
                    f"{self._name} is being published by another producer: rows of it arrive in the topic. "
                    "Wait until that one has ended, then start this one again"
                )
        # Older publications of the file and old mishaps are nobody's fault now.
        self._seen = self._doubled = 0
        self._rival = False
        self.start = self._position

    def check(self, at_least: int, at_most: int, beat: Beat) -> None:
        """See whether the topic has grown by what this run has sent, by so many records.

        Raises:
            LakefeedError: it has lost records.
            BusyError: rows were sent by another producer too.
        """
        _, end = self._log.bounds()
        grown = self._seen + sum(new - old for new, old in zip(end, self._position, strict=False))
        if grown < at_least:
            raise LakefeedError(
                "the topic was removed or emptied meanwhile, and acknowledged events with it. "
                "Start the same command again: it sends what the topic does not hold"
            )
        if grown == at_least == at_most:
            self.end = end
        elif grown > at_most:
            self._catch_up(beat)
            if self._doubled or self._rival:
                raise BusyError(
                    f"{self._name} is being published by another producer too, and the topic may hold rows "
                    "of it twice. Let only one producer publish a file"
                )

    def _catch_up(self, beat: Beat, first: Sequence[int] = ()) -> int:
        """Read on; the number of records of this publication."""
        publication, rows = self.arrivals.publication, self.arrivals.rows
        _, end = self._log.bounds()
        count = 0
        for found in self._log.read(self._position, end[: len(self._position)], beat):
            if found.publication != publication:
                self._rival |= found.publication.source == publication.source
                continue
            count += 1
            if first and first[found.partition] == found.offset > 0:
                self.arrivals.deleted[found.partition] = found.row
            if found.row < len(rows):
                self._doubled += int(rows[found.row])
                rows[found.row] = True
        self._position = end
        self._seen += count
        return count


class Journal:
    """Which files a topic holds. Each part of the topic is read once to know.

    Args:
        log: the topic.
        quiet_seconds: how long nothing must arrive until the topic counts as quiet.
    """

    def __init__(self, log: TopicLog, quiet_seconds: float = _QUIET_SECONDS) -> None:
        self._log = log
        self._quiet_seconds = quiet_seconds
        self._opened = time.monotonic()
        self._latest: dict[bytes, Publication] = {}
        self._from: list[int] = []
        self._to: list[int] = []

    def begin(self, source: bytes, sha256: str, rows: int) -> Tracker:
        """Begin a new publication, whatever the topic holds."""
        _, end = self._log.bounds()
        publication = Publication.new(source, sha256, len(end), time.time_ns() // 1_000_000)
        return Tracker(self._log, Arrivals.none(publication, rows), end)

    def resume(self, source: bytes, sha256: str, mtime_ns: int, rows: int, beat: Beat) -> Tracker:
        """Go on with a file's publication, or begin it if the topic does not know the file.

        Args:
            source: name of the file.
            sha256: of its content.
            mtime_ns: when it got this content; older parts of the topic need not be read.
            rows: data rows of the file.
            beat: called often; may raise to break off.

        Raises:
            ChangedError: the last publication under this name was of another content.
            BusyError: rows of the file arrive right now.
        """
        latest = self._find(source, mtime_ns // 1_000_000, beat)
        if latest is None:
            return self.begin(source, sha256, rows)
        if not latest.is_of(sha256):
            began = datetime.fromtimestamp(latest.began / 1000, UTC)
            raise ChangedError(
                f"{_shown(source)}: its content is not the one that was published under this name at "
                f"{began:%Y-%m-%d %H:%M:%S} UTC. {KEEP_ROWS_APART}"
            )
        first, _ = self._log.bounds()
        dated = self._log.offsets_at(latest.began - _SLACK_MS)
        tracker = Tracker(self._log, Arrivals.none(latest, rows), list(map(max, first, dated)))
        tracker.read_back(self._quiet_seconds, beat)
        return tracker

    def done(self, tracker: Tracker) -> None:
        """Remember what was just published: if nobody else wrote to the topic, it need not be read."""
        self._note(tracker.arrivals.publication)
        if tracker.start == self._to:
            self._to = tracker.end

    def _find(self, source: bytes, modified_ms: int, beat: Beat) -> Publication | None:
        # What a killed producer had on its way may be the first that the topic gets of the file.
        _nap(self._opened + self._quiet_seconds - time.monotonic(), beat)
        first, end = self._log.bounds()
        if len(self._to) != len(end) or any(map(int.__gt__, self._to, end)):
            # Never read, given more partitions, or removed and made again.
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


def _nap(seconds: float, beat: Beat) -> None:
    end = time.monotonic() + seconds
    beat()
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _NAP_SECONDS))
        beat()
