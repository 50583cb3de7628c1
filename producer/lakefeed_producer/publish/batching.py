"""Encodes rows as events and splits them into batches, without the rows that the topic has already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from lakefeed_producer.csv.byte_columns import ByteColumn, ConcatColumn, Flags
from lakefeed_producer.csv.column_types import missing
from lakefeed_producer.csv.rejects import Reason, Reject
from lakefeed_producer.csv.rows import Origin, Rows
from lakefeed_producer.csv.splitter import Positions
from lakefeed_producer.kafka.batch import EventBatch
from lakefeed_producer.kafka.publication import Publication, RowsInTopic
from lakefeed_producer.publish.events import Encoder
from lakefeed_producer.publish.plan import Plan

# With more parts than this, selecting rows of each part costs more than copying all of them once.
_MANY_PARTS = 500
_ROW_DIGITS = 19


@dataclass(frozen=True)
class Events:
    """The events of consecutive rows that are to be sent, and the rejects among these rows.

    Attributes:
        publication: what they belong to.
        rows, partitions, values, keys: the events; see `EventBatch`.
        rejects: the rejected rows, ascending.
        found: how many rows the topic has already.
        last_row: the last row, sent or not.
        reject: returns the reject for the event of a row; see `EventBatch`.
    """

    publication: Publication
    rows: Positions
    partitions: Positions
    values: ConcatColumn
    keys: ByteColumn | None
    rejects: Sequence[Reject]
    found: int
    last_row: int
    reject: partial[Reject]

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, begin: int, end: int) -> EventBatch:
        """The events of an index range."""
        last_sent = int(self.rows[end - 1]) if end > begin else 0
        part = slice(begin, end)
        return EventBatch(
            self.publication,
            self.rows[part],
            self.partitions[part],
            self.values.take(part),
            self.keys.take(part) if self.keys is not None else None,
            last_row=self.last_row if end == len(self) else last_sent,
            reject=self.reject,
        )


class Batcher:
    """Encodes the rows of one file.

    Args:
        plan: what is published of the file.
        in_topic: the rows that the topic has already.
        max_event_bytes: the largest sum of key, value and headers that the publisher accepts.
    """

    def __init__(self, plan: Plan, in_topic: RowsInTopic, max_event_bytes: int) -> None:
        self._plan = plan
        self._in_topic = in_topic
        self._encoder = Encoder(plan.file.names, plan.types, plan.file.dialect.nulls)
        self._max_event_bytes = max_event_bytes
        # Names and values of the headers.
        overhead = len("row") + _ROW_DIGITS
        overhead += sum(len(name) + len(value) for name, value in in_topic.publication.headers)
        self._max_bytes = max_event_bytes - overhead

    def encode(self, rows: Rows) -> Events:
        """Encode the rows that the topic lacks."""
        publication = self._in_topic.publication
        keys = self._keys(rows)
        partitions = publication.assign_partitions(rows.rows, keys)
        present = self._in_topic.present(rows.rows, partitions)
        if present.any():
            lacking = ~present
            columns = [values.take(lacking) for values in rows.columns]
            rows = replace(rows, columns=columns, rows=rows.rows[lacking])
            keys, partitions = _take(keys, lacking), partitions[lacking]
        values = self._encoder.encode(rows.columns, plain=rows.is_plain)
        if len(values.parts) > _MANY_PARTS:
            values = values.materialized()
        numbers = rows.rows
        rejects = list(rows.rejects)
        sizes = values.lengths()
        large = (sizes if keys is None else sizes + keys.lengths) > self._max_bytes
        if large.any():
            rejects += [self._too_large(rows, row, sizes[at]) for at, row in _numbered(numbers, large)]
            rejects.sort(key=lambda one: one.row)
            fitting = ~large
            values, numbers, partitions = values.take(fitting), numbers[fitting], partitions[fitting]
            keys = _take(keys, fitting)
        return Events(
            publication,
            numbers,
            partitions,
            values,
            keys,
            rejects=rejects,
            found=int(present.sum()),
            last_row=rows.last_row,
            reject=partial(_refused_by_broker, rows.origin),
        )

    def _keys(self, rows: Rows) -> ByteColumn | None:
        column = self._plan.key
        if column is None:
            return None
        values = rows.columns[column]
        return values.where(~missing(values, self._plan.types[column], self._plan.file.dialect.nulls))

    def _too_large(self, rows: Rows, row: int, size: int) -> Reject:
        message = (
            f"the event has {int(size):,} bytes, more than the {self._max_event_bytes:,} that the topic "
            "accepts with key and headers"
        )
        return rows.origin.reject(row, Reason.EVENT_TOO_LARGE, message)


def _take(keys: ByteColumn | None, flags: Flags) -> ByteColumn | None:
    return keys.take(flags) if keys is not None else None


def _numbered(numbers: Positions, flags: Flags) -> list[tuple[int, int]]:
    """The index and the row number of each set flag."""
    return [(at, int(numbers[at])) for at in np.flatnonzero(flags).tolist()]


def _refused_by_broker(origin: Origin, row: int, reason: str) -> Reject:
    """The reject for an event that the broker refused for its size."""
    message = f"the broker does not accept an event of this size: {reason}"
    return origin.reject(row, Reason.EVENT_TOO_LARGE, message)
