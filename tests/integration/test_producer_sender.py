"""The sender against a real broker: lost responses, record batches that are too large.

What the sender does with each response is tested in tests/unit/producer/test_sender.py, with a broker in
memory that tracks sequence numbers as the real one does.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from lakefeed_producer.kafka import cluster, sender
from lakefeed_producer.kafka.publisher import KafkaPublisher
from lakefeed_producer.kafka.record_batches import RecordBatch
from tests.helpers.publishing import make_topic, read
from tests.helpers.sending import send

ROWS = 600


def publisher(kafka: str, topic: str, max_message_bytes: int = 1_000_000) -> KafkaPublisher:
    host, _, port = kafka.rpartition(":")

    def start() -> sender.Sender:
        return sender.Sender([(host, int(port))], lambda: {"security_protocol": "PLAINTEXT"}, topic)

    return KafkaPublisher(start, max_message_bytes=max_message_bytes, compression="lz4")


VALUES = [b'{"n":%d}' % row for row in range(1, ROWS + 1)]


def values_of(kafka: str, topic: str, partition: int) -> list[bytes]:
    records = [(int(dict(headers)["row"]), value) for _, value, headers in read(kafka, topic, 2)]
    assert len(dict(records)) == len(records), "none is duplicated"
    return [value for row, value in records if row % 2 == partition]


def losing(monkeypatch: pytest.MonkeyPatch, loses: Callable[[int, int], str]) -> None:
    """Lose the request, the response, or nothing of a record batch.

    `loses` decides by its first sequence number and by how often it was sent before. Counted over all
    partitions, one that alternates with another could lose all of its responses.
    """
    produces = cluster.Cluster.produce
    tries = Counter[tuple[int, int]]()

    async def produce(
        self: cluster.Cluster, records: RecordBatch, compressed: bytes, sequence: int
    ) -> tuple[int, int]:
        which = records.part.partition, sequence
        lost = loses(sequence, tries[which])
        tries[which] += 1
        if lost == "request":
            raise ConnectionError("the request was lost")
        answer = await produces(self, records, compressed, sequence)
        if lost == "response":
            for connection in self._connections.values():
                connection.close()
            raise ConnectionError("the response was lost")
        return answer

    monkeypatch.setattr(cluster.Cluster, "produce", produce)


def test_lost_requests_and_responses_lose_no_record_and_duplicate_none(
    kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_topic(kafka, topic, 2)
    losing(monkeypatch, lambda _, tried: ("request", "response", "response", "")[min(tried, 3)])
    to = publisher(kafka, topic)
    deliveries = send(to, VALUES)
    assert (deliveries.delivered, deliveries.failed, deliveries.position) == (ROWS, [], ROWS)
    to.abandon()
    assert values_of(kafka, topic, 0) == VALUES[1::2]
    assert values_of(kafka, topic, 1) == VALUES[0::2]


def test_a_record_batch_that_is_too_large_is_halved(kafka: str, topic: str) -> None:
    make_topic(kafka, topic, 2, **{"max.message.bytes": "700"})
    values = [b"%d" % row * 50 for row in range(100, 190)]
    # Random enough that compression does not help.
    generator = np.random.default_rng(20240229)
    values[44] = generator.bytes(2_000)
    to = publisher(kafka, topic)
    deliveries = send(to, values)
    [(batch, undelivered)] = deliveries.too_large
    to.abandon()
    assert (int(batch.rows[undelivered.index]), deliveries.failed) == (45, [])
    assert (deliveries.delivered, deliveries.position) == (89, 90)
    assert values_of(kafka, topic, 0) == values[1::2]
    assert values_of(kafka, topic, 1) == [value for value in values[0::2] if value != values[44]]


def test_a_broker_that_lost_the_producers_state_ends_the_partition_without_a_gap(
    kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_topic(kafka, topic, 2)
    following = sender.next_sequence
    monkeypatch.setattr(
        sender,
        "next_sequence",
        lambda sequence, records: following(sequence, records) + (records.part.partition == 1) * 7,
    )
    to = publisher(kafka, topic)
    deliveries = send(to, VALUES)
    to.abandon()
    # The first record batch of partition 1 has arrived, and none after it.
    assert deliveries.delivered == ROWS // 2 + 50
    assert all(undelivered.retryable for _, undelivered in deliveries.failed)
    assert "out of order" in deliveries.failed[0][1].reason
    assert values_of(kafka, topic, 1) == VALUES[:100:2]
    assert values_of(kafka, topic, 0) == VALUES[1::2]


@pytest.mark.parametrize("kind", ["random", "zeros"])
def test_a_broker_reads_large_record_batches_however_well_they_are_compressed(
    kafka: str, topic: str, kind: str
) -> None:
    make_topic(kafka, topic, 2, **{"max.message.bytes": "4000000"})
    sizes = [10, 2**20 + 1, 3 * 2**20, 10]
    values = [random.Random(size).randbytes(size) if kind == "random" else bytes(size) for size in sizes]
    to = publisher(kafka, topic, max_message_bytes=4_000_000)
    deliveries = send(to, values, partitions=1)
    to.abandon()
    assert (deliveries.delivered, deliveries.failed) == (len(sizes), [])
    assert [value for _, value, _ in read(kafka, topic)] == values
