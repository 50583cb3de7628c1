"""A dry run: events are printed instead of sent, and nothing is known of earlier runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lakefeed_producer.kafka.batch import EventBatch
from lakefeed_producer.kafka.publication import Publication, RowsInTopic
from lakefeed_producer.kafka.publisher import DEFAULT_MAX_MESSAGE_BYTES
from lakefeed_producer.publish.destination import Beat


class EventPrinter:
    """A publisher that prints events to standard output."""

    max_event_bytes = DEFAULT_MAX_MESSAGE_BYTES
    trouble = ""

    def send(self, batch: EventBatch, keep_sending: Callable[[], bool]) -> None:  # noqa: ARG002
        """Print the values, one per line."""
        sys.stdout.buffer.write(b"".join(value + b"\n" for value in batch.values.to_list()))
        sys.stdout.flush()
        batch.acknowledge(len(batch))

    def wait(self, seconds: float) -> None:
        """Wait: there are no delivery reports."""
        time.sleep(seconds)

    def abandon(self) -> None:
        """Nothing is in flight."""


@dataclass(frozen=True)
class EmptyTracker:
    """Tracks a publication in a topic without records."""

    in_topic: RowsInTopic

    def check(self, at_least: int, at_most: int, beat: Beat) -> None:
        """Nothing to check."""

    def done(self) -> None:
        """Nothing to note."""


class EmptyJournal:
    """The journal of a topic without records."""

    def begin(self, source: bytes, sha256: str, rows: int) -> EmptyTracker:
        """Start a publication."""
        return EmptyTracker(RowsInTopic.none(Publication.new(source, sha256, 1, 0), rows))

    def resume(self, source: bytes, sha256: str, mtime_ns: int, rows: int, beat: Beat) -> EmptyTracker:  # noqa: ARG002
        """Start a publication."""
        return self.begin(source, sha256, rows)


@dataclass(frozen=True)
class DryRun:
    """The destination of a dry run."""

    publisher: EventPrinter = field(default_factory=EventPrinter)
    journal: EmptyJournal = field(default_factory=EmptyJournal)
