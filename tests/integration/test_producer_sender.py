"""What the sender of record batches does when answers get lost, or are a no, at a real broker."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from lakefeed_producer import sender
from lakefeed_producer.arrivals import Publication
from lakefeed_producer.delivery import Account, Batch, KafkaPublisher
from lakefeed_producer.record_batches import RecordBatch
from lakefeed_producer.texts import Joined
from tests.helpers.publishing import make_topic, read
from tests.helpers.waiting import wait_for

ROWS = 2_000


def batches(values: list[bytes], partitions: int = 2, of: int = 100) -> Iterator[Batch]:
    publication = Publication(b"a.csv", "0123456789abcdef", partitions, 1)
    for first in range(1, len(values) + 1, of):
        rows = np.arange(first, min(first + of, len(values) + 1))
        some = Joined.of(values[first - 1 : first - 1 + of])
        yield Batch(publication, rows, rows % partitions, some, None, last_row=int(rows[-1]))


def publisher(kafka: str, topic: str, max_message_bytes: int = 1_000_000) -> KafkaPublisher:
    host, _, port = kafka.rpartition(":")

    def start() -> sender.Sender:
        return sender.Sender([(host, int(port))], lambda: {"security_protocol": "PLAINTEXT"}, topic)

    return KafkaPublisher(start, max_message_bytes=max_message_bytes, compression="lz4")


def send(to: KafkaPublisher, values: list[bytes], **options: int) -> Account:
    account = Account()
    for batch in batches(values, **options):
        account.add(batch)
        to.send(batch, lambda: True)
    settle(to, account)
    return account


def settle(to: KafkaPublisher, account: Account) -> None:
    def settled() -> bool:
        to.wait(0.05)
        account.settle()
        return account.empty

    wait_for(settled, 60, lambda: f"{account.in_flight} events are not acknowledged: {to.trouble}")


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
    produces = sender._Work._produce
    tries = Counter[tuple[int, int]]()

    async def produce(self: sender._Work, partition: int, records: RecordBatch, compressed: bytes) -> int:
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

    monkeypatch.setattr(sender._Work, "_produce", produce)


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
    following = sender._Work._next
    monkeypatch.setattr(
        sender._Work,
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


def test_what_is_given_up_does_not_arrive_later(
    kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_topic(kafka, topic, 2)
    with monkeypatch.context() as patch:
        losing(patch, lambda sequence, _: "" if sequence < 100 else "question")
        to = publisher(kafka, topic)
        account = Account()
        for batch in batches(VALUES):
            account.add(batch)
            to.send(batch, lambda: True)
        delivered = 2 * 100

        def all_answered_and_others_lost() -> bool:
            to.wait(0.05)
            return account.in_flight == ROWS - delivered and "lost on the way" in to.trouble

        # None of these is on its way when it is given up: it could arrive and nobody hear of it.
        wait_for(all_answered_and_others_lost, 30)
        to.abandon()
        account.settle()
        assert account.empty
        assert account.delivered == delivered
        assert all(undelivered.retryable for _, undelivered in account.failed)
    assert len(read(kafka, topic, 2)) == delivered
    assert send(to, VALUES[:10]).delivered == 10, "it can be used again"
    to.abandon()
    assert len(read(kafka, topic, 2)) == delivered + 10


def test_a_wait_ends_though_a_signal_comes_as_its_time_runs_out(kafka: str, topic: str) -> None:
    to = publisher(kafka, topic)
    to.open()
    waits, came = threading.get_ident(), threading.Event()

    def handle(*_: object) -> None:
        came.set()
        time.sleep(0.3)

    before = signal.signal(signal.SIGUSR1, handle)
    timer = threading.Timer(0.1, signal.pthread_kill, (waits, signal.SIGUSR1))
    try:
        timer.start()
        while not came.is_set():
            to.wait(0.2)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
        to.abandon()


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
