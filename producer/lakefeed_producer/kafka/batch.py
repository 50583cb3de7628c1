"""A batch of events on its way to Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lakefeed_producer.csv.byte_columns import ByteColumn, ConcatColumn
from lakefeed_producer.csv.rejects import Reject
from lakefeed_producer.csv.splitter import Positions
from lakefeed_producer.kafka.publication import Publication


@dataclass(frozen=True)
class Undelivered:
    """An event that the broker did not accept.

    Attributes:
        index: its position in the batch.
        too_large: whether the broker refused its size.
        retryable: whether another run may succeed.
        reason: why, for a message.
    """

    index: int
    too_large: bool
    retryable: bool
    reason: str


def _no_reject(row: int, reason: str) -> Reject:
    raise AssertionError(f"row {row}: {reason}")


@dataclass
class EventBatch:
    """Consecutive events of one file that are sent and accounted for together.

    Attributes:
        publication: what they belong to, for the headers.
        rows: data row number of each event, ascending.
        partitions, values, keys: the records; an empty key means none.
        last_row: all rows of the file up to this one are in this batch, in an earlier one, or rejected.
        reject: returns the reject for the event of a row that is too large.
        bytes: size of the values.
        waiting: events neither acknowledged nor failed.
        answered: events that the broker acknowledged, or refused for their size.
        failed: events that the broker did not accept.
        seconds: time from sending to the acknowledgement of the last event.
    """

    publication: Publication
    rows: Positions
    partitions: Positions
    values: ConcatColumn
    keys: ByteColumn | None
    last_row: int
    reject: Callable[[int, str], Reject] = field(default=_no_reject)
    bytes: int = field(init=False)
    waiting: int = field(init=False)
    answered: int = field(init=False, default=0)
    failed: list[Undelivered] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.waiting = len(self.values)
        self.bytes = int(self.values.lengths().sum())

    def __len__(self) -> int:
        return len(self.values)

    def acknowledge(self, count: int, seconds: float = 0.0) -> None:
        """Count `count` events as delivered, `seconds` after they were sent."""
        self.waiting -= count
        self.answered += count
        if not self.waiting:
            self.seconds = seconds

    def fail(self, indices: Iterable[int], reason: str, *, too_large: bool, retryable: bool) -> None:
        """Count these events as not accepted."""
        for index in indices:
            self.waiting -= 1
            self.answered += too_large
            self.failed.append(Undelivered(index, too_large, retryable, reason))
