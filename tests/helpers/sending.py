"""Batches of events for a publisher, and their delivery."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lakefeed_producer.csv.byte_columns import ConcatColumn
from lakefeed_producer.kafka.batch import EventBatch
from lakefeed_producer.kafka.publication import Publication
from lakefeed_producer.kafka.publisher import KafkaPublisher
from lakefeed_producer.publish.deliveries import Deliveries
from tests.helpers.waiting import wait_for


def batches(values: list[bytes], partitions: int = 2, of: int = 100) -> Iterator[EventBatch]:
    """The values as rows 1, 2, 3, … of a file; with two partitions, even rows are in partition 0."""
    publication = Publication(b"a.csv", "0123456789abcdef", partitions, 1)
    for first in range(1, len(values) + 1, of):
        rows = np.arange(first, min(first + of, len(values) + 1))
        some = ConcatColumn.of(values[first - 1 : first - 1 + of])
        yield EventBatch(publication, rows, rows % partitions, some, None, last_row=int(rows[-1]))


def hand_over(to: KafkaPublisher, values: list[bytes], **options: int) -> Deliveries:
    """Send without waiting for acknowledgements."""
    deliveries = Deliveries()
    for batch in batches(values, **options):
        deliveries.add(batch)
        to.send(batch, lambda: True)
    return deliveries


def send(to: KafkaPublisher, values: list[bytes], **options: int) -> Deliveries:
    """Send and wait until each event is acknowledged or refused."""
    deliveries = hand_over(to, values, **options)
    settle(to, deliveries)
    return deliveries


def settle(to: KafkaPublisher, deliveries: Deliveries) -> None:
    def settled() -> bool:
        to.wait(0.05)
        deliveries.settle()
        return deliveries.empty

    wait_for(settled, 60, lambda: f"{deliveries.in_flight} events in flight: {to.trouble}", every=0)


def failed_rows(deliveries: Deliveries) -> list[int]:
    """Rows that were refused for another reason than their size."""
    return sorted(int(batch.rows[one.index]) for batch, one in deliveries.failed)
