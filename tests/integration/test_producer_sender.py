"""A real broker and the sender of record batches: lost answers, record batches that are too large.

What the sender does with each answer is shown in tests/unit/producer/test_sender.py, by a broker in memory
that keeps sequences as the real one here does.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from lakefeed_producer.kafka import sender
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
    assert len(dict(records)) == len(records), "none is there twice"
    return [value for row, value in records if row % 2 == partition]


def losing(monkeypatch: pytest.MonkeyPatch, loses: Callable[[int, int], str]) -> None:
    """Lose the question, the answer, or nothing of a record batch.

    `loses` says which, of its first sequence number and of how often it was asked about before. Counted over
    partitions, one that takes turns with another could lose all of its answers.
    """
    produces = sender._Worker._produce
    tries = Counter[tuple[int, int]]()

    async def produce(self: sender._Worker, partition: int, records: RecordBatch, compressed: bytes) -> int:
        which = partition, self._sequences.get(partition, 0)
        lost = loses(which[1], tries[which])
        tries[which] += 1
        if lost == "question":
            raise ConnectionError("lost on the way")
        code = await produces(self, partition, records, compressed)
        if lost == "answer":
            for connection in self._connections.values():
                connection.close()
            raise ConnectionError("lost on the way back")
        return code

    monkeypatch.setattr(sender._Worker, "_produce", produce)


def test_lost_questions_and_answers_cost_no_record_and_double_none(
    kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_topic(kafka, topic, 2)
    losing(monkeypatch, lambda _, tried: ("question", "answer", "answer", "")[min(tried, 3)])
    to = publisher(kafka, topic)
    account = send(to, VALUES)
    assert (account.delivered, account.failed, account.position) == (ROWS, [], ROWS)
    to.abandon()
    assert values_of(kafka, topic, 0) == VALUES[1::2]
    assert values_of(kafka, topic, 1) == VALUES[0::2]


def test_a_record_batch_that_is_too_large_goes_in_parts(kafka: str, topic: str) -> None:
    make_topic(kafka, topic, 2, **{"max.message.bytes": "700"})
    values = [b"%d" % row * 50 for row in range(100, 190)]
    # Random enough that compression does not help.
    generator = np.random.default_rng(20240229)
    values[44] = generator.bytes(2_000)
    to = publisher(kafka, topic)
    account = send(to, values)
    [(batch, undelivered)] = account.too_large
    to.abandon()
    assert (int(batch.rows[undelivered.index]), account.failed) == (45, [])
    assert (account.delivered, account.position) == (89, 90)
    assert values_of(kafka, topic, 0) == values[1::2]
    assert values_of(kafka, topic, 1) == [value for value in values[0::2] if value != values[44]]


def test_a_broker_that_has_lost_track_ends_the_partition_without_a_hole(
    kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_topic(kafka, topic, 2)
    following = sender._Worker._next
    monkeypatch.setattr(
        sender._Worker,
        "_next",
        lambda self, partition, records: following(self, partition, records) + (partition == 1) * 7,
    )
    to = publisher(kafka, topic)
    account = send(to, VALUES)
    to.abandon()
    # The first record batch of partition 1 has arrived, and none behind it.
    assert account.delivered == ROWS // 2 + 50
    assert all(undelivered.retryable for _, undelivered in account.failed)
    assert "out of order" in account.failed[0][1].reason
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
    account = send(to, values, partitions=1)
    to.abandon()
    assert (account.delivered, account.failed) == (len(sizes), [])
    assert [value for _, value, _ in read(kafka, topic)] == values
