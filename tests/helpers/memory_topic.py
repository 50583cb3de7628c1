"""A topic in memory: accepts what a producer sends, and can be read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lakefeed_producer.kafka.batch import EventBatch
from lakefeed_producer.kafka.journal import Beat, FoundRow, Journal
from lakefeed_producer.kafka.publication import Publication

Record = tuple[bytes | None, bytes, list[tuple[str, bytes]]]


class MemoryTopic:
    """A `Publisher`, and the `TopicLog` of its records; each event is acknowledged at once.

    Args:
        partitions: how many there are.
        max_event_bytes: the largest event.
    """

    trouble = ""

    def __init__(self, partitions: int = 1, max_event_bytes: int = 1_000_000) -> None:
        self.max_event_bytes = max_event_bytes
        self.records: list[Record] = []
        self.found: list[list[FoundRow]] = [[] for _ in range(partitions)]
        self.first = [0] * partitions
        self.times: list[list[int]] = [[] for _ in range(partitions)]
        self.read_records = 0
        self.before_send: Callable[[EventBatch], None] = lambda _: None

    def connection(self) -> MemoryConnection:
        """A connection that knows nothing of the topic yet."""
        return MemoryConnection(self)

    def put(
        self, publication: Publication, partition: int, row: int, milliseconds: int | None = None
    ) -> None:
        """Append one record's headers."""
        log = self.found[partition]
        log.append(FoundRow(partition, len(log), publication, row))
        now = time.time_ns() // 1_000_000
        self.times[partition].append(now if milliseconds is None else milliseconds)

    # ---- the publisher

    def send(self, batch: EventBatch, keep_sending: Callable[[], bool]) -> None:
        self.before_send(batch)
        values, rows, partitions = batch.values.to_list(), batch.rows.tolist(), batch.partitions.tolist()
        for index, (value, partition, row) in enumerate(zip(values, partitions, rows, strict=True)):
            key = (batch.keys and batch.keys[index]) or None
            self.records.append((key, value, [*batch.publication.headers, ("row", b"%d" % row)]))
            self.put(batch.publication, partition, row)
        batch.acknowledge(len(batch))

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def abandon(self) -> None:
        pass

    # ---- the log

    def bounds(self) -> tuple[list[int], list[int]]:
        return list(self.first), [len(log) for log in self.found]

    def offsets_at(self, milliseconds: int) -> list[int]:
        return [sum(one < milliseconds for one in times) for times in self.times]

    def read(self, begin: Sequence[int], end: Sequence[int], beat: Beat) -> Iterator[FoundRow]:
        for log, low, high in zip(self.found, begin, end, strict=True):
            beat()
            self.read_records += max(0, high - low)
            yield from log[low:high]


class MemoryConnection:
    """A connection to the topic."""

    notes = ()

    def __init__(self, topic: MemoryTopic) -> None:
        self.publisher: Any = topic
        self.journal = Journal(topic, quiet_seconds=0)
