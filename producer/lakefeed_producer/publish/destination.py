"""Where events go, and what is known about the rows that are there already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from lakefeed_producer.kafka.batch import EventBatch
from lakefeed_producer.kafka.publication import RowsInTopic

Beat = Callable[[], None]
"""Called often during long work, as a heartbeat; may raise to stop the work."""


class Publisher(Protocol):
    """Sends events. Not thread-safe."""

    @property
    def max_event_bytes(self) -> int:
        """The largest sum of key, value and headers that is accepted."""

    @property
    def trouble(self) -> str:
        """The last problem of the connection; empty if there is none."""

    def send(self, batch: EventBatch, keep_sending: Callable[[], bool]) -> None:
        """Send all events of a batch; those left when `keep_sending` returns False are failed.

        It is called periodically while the queue is full.

        Raises:
            LakefeedError: nothing can be sent any more.
        """

    def wait(self, seconds: float) -> None:
        """Process delivery reports, waiting up to `seconds` for the first.

        Raises:
            LakefeedError: nothing can be sent any more.
        """

    def abandon(self) -> None:
        """Stop sending: each event without an acknowledgement fails, and none arrives later."""


class Tracker(Protocol):
    """Follows one publication in the topic."""

    @property
    def in_topic(self) -> RowsInTopic:
        """The rows that the topic had before the run."""

    def check(self, at_least: int, at_most: int, beat: Beat) -> None:
        """Check that the topic has grown by the records of this run: `at_least` to `at_most` of them.

        Raises:
            LakefeedError: the topic has lost records.
            BusyError: another producer sent rows of the file.
            UnavailableError: the topic cannot be read now.
        """

    def done(self) -> None:
        """Note that this run's rows are in the topic."""


class Journal(Protocol):
    """Knows which files the topic has."""

    def begin(self, source: bytes, sha256: str, rows: int) -> Tracker:
        """Start a new publication of a file, whatever the topic has."""

    def resume(self, source: bytes, sha256: str, mtime_ns: int, rows: int, beat: Beat) -> Tracker:
        """Resume a file's publication, or start one if the topic has no rows of the file.

        Raises:
            ChangedError: the latest publication under this name has different content.
            BusyError: rows of the file are arriving.
        """


class Destination(Protocol):
    """A topic, or what stands in for one."""

    @property
    def publisher(self) -> Publisher:
        """Sends to it."""

    @property
    def journal(self) -> Journal:
        """Knows what it has."""
