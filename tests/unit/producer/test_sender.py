"""What the sender does with each response of a broker; see `tests/helpers/scripted_broker.py`."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from aiokafka import errors

from lakefeed_common.errors import LakefeedError, RefusedError
from lakefeed_producer.errors import BusyError
from lakefeed_producer.kafka import sender
from lakefeed_producer.kafka.cluster import FENCED, Identity
from lakefeed_producer.kafka.publisher import KafkaPublisher
from lakefeed_producer.kafka.sender import Sender
from lakefeed_producer.publish.deliveries import Deliveries
from tests.helpers.scripted_broker import (
    DUPLICATE,
    NOT_LEADER,
    OUT_OF_ORDER,
    Loss,
    ScriptedBroker,
    SkippingLoop,
    access,
    replace_network,
)
from tests.helpers.sending import batches, failed_rows, hand_over, send, settle
from tests.helpers.waiting import wait_for

ROWS = 60
VALUES = [b'{"n":%d}' % row for row in range(1, ROWS + 1)]
# Partitions 0 and 1, in record batches of five.
EVEN, ODD = VALUES[1::2], VALUES[0::2]
OF = 10

# Every error that Kafka calls retriable, and a wrong checksum.
RETRIED = {2, 3, 5, 6, 7, 14, 15, 16, 19, 20, 41, 56}
ACCEPTED = {0, 46}
HALVED = {10, 18}
FORBIDDEN = {29, 31}
# Out of order, an old epoch, an unknown producer: another run reads back what has arrived, and resumes.
STATE_LOST = {45, 47, 59}
CODES = sorted(errors.kafka_errors)


@pytest.fixture
def broker() -> ScriptedBroker:
    return ScriptedBroker()


@pytest.fixture
def loop(broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch) -> SkippingLoop:
    return replace_network(monkeypatch, broker)


@pytest.fixture
def publisher(loop: SkippingLoop) -> Iterator[KafkaPublisher]:
    to = publisher_to(("one", 9092))
    yield to
    to.abandon()
    assert loop.is_closed() or not to.trouble, "its thread has ended"


@pytest.fixture
def exclusive(loop: SkippingLoop) -> Iterator[KafkaPublisher]:
    """A publisher whose producer no other may write with."""
    to = publisher_to(("one", 9092), identity=Identity(7, 3))
    yield to
    to.abandon()


def publisher_to(
    *servers: tuple[str, int], access: Callable[[], object] = access, identity: Identity | None = None
) -> KafkaPublisher:
    start = lambda: Sender(list(servers), access, "events", identity)  # type: ignore[arg-type]  # noqa: E731
    return KafkaPublisher(start, max_message_bytes=1_000_000)


def sent(to: KafkaPublisher, values: list[bytes] = VALUES) -> Deliveries:
    return send(to, values, of=OF)


def check_all_there(broker: ScriptedBroker, deliveries: Deliveries) -> None:
    assert (deliveries.delivered, deliveries.failed, deliveries.position) == (ROWS, [], ROWS)
    assert (broker.logs[0], broker.logs[1]) == (EVEN, ODD)


def test_each_partition_has_its_own_sequence_and_one_record_batch_in_flight(
    broker: ScriptedBroker, publisher: KafkaPublisher
) -> None:
    check_all_there(broker, sent(publisher))
    for partition in (0, 1):
        sequences = [batch.sequence for batch in broker.received if batch.partition == partition]
        assert sequences == [0, 5, 10, 15, 20, 25]
    assert broker.connected == [("one", 9092)]


def test_sequence_numbers_wrap_around_to_zero(
    broker: ScriptedBroker, publisher: KafkaPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_SEQUENCES", 12)
    broker.sequences = 12
    check_all_there(broker, sent(publisher))
    assert [batch.sequence for batch in broker.received if batch.partition == 0] == [0, 5, 10, 3, 8, 1]


# ---- every error code --------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(RETRIED))
def test_transient_errors_are_retried_until_the_record_batch_is_accepted(
    broker: ScriptedBroker, publisher: KafkaPublisher, loop: SkippingLoop, code: int
) -> None:
    broker.script[0] += [0, code, code, code]
    check_all_there(broker, sent(publisher))
    assert [batch.sequence for batch in broker.received if batch.partition == 0][:5] == [0, 5, 5, 5, 5]
    assert not publisher.trouble, "an acknowledgement clears the trouble"
    assert loop.skipped > 0.05 + 0.1, "with increasing pauses"


@pytest.mark.parametrize(
    "code", [code for code in CODES if code not in RETRIED | ACCEPTED | HALVED | FORBIDDEN] + [9_999]
)
def test_any_other_error_ends_the_partition_without_a_gap(
    broker: ScriptedBroker, publisher: KafkaPublisher, code: int
) -> None:
    broker.script[1] += [0, code]
    deliveries = sent(publisher)
    assert broker.logs[1] == ODD[:5], "nothing after the one that failed"
    assert len([batch for batch in broker.received if batch.partition == 1]) == 2, "and nothing is retried"
    assert broker.logs[0] == EVEN, "the other partition continues"
    assert failed_rows(deliveries) == list(range(11, ROWS, 2))
    assert (deliveries.delivered, deliveries.position) == (35, 10)
    error = errors.for_code(code)
    assert {one.reason for _, one in deliveries.failed} == {error.description or str(error())}
    first, following = deliveries.failed[:5], deliveries.failed[5:]
    assert {one.retryable for _, one in first} == {code in STATE_LOST}
    assert {one.retryable for _, one in following} == {True}
    assert not deliveries.too_large


def test_a_duplicate_has_arrived_and_is_not_sent_again(
    broker: ScriptedBroker, publisher: KafkaPublisher
) -> None:
    broker.script[0] += ["response", 0]
    check_all_there(broker, sent(publisher))
    assert [batch.sequence for batch in broker.received if batch.partition == 0][:3] == [0, 0, 5]


@pytest.mark.parametrize("code", sorted(HALVED))
def test_a_record_batch_that_is_too_large_is_halved(
    broker: ScriptedBroker, publisher: KafkaPublisher, code: int
) -> None:
    broker.script[0] += [0, code, code]
    check_all_there(broker, sent(publisher))
    parts = [(batch.sequence, len(batch.values)) for batch in broker.received if batch.partition == 0]
    # Five are split into two and three, and the two into one and one.
    assert parts[:6] == [(0, 5), (5, 5), (5, 2), (5, 1), (6, 1), (7, 3)]


def test_a_single_record_that_is_too_large_is_refused_and_leaves_no_gap(
    broker: ScriptedBroker, publisher: KafkaPublisher
) -> None:
    broker.largest = 700
    values = [*VALUES[:23], np.random.default_rng(20240229).bytes(2_000), *VALUES[24:]]
    deliveries = sent(publisher, values)
    [(batch, refused)] = deliveries.too_large
    assert int(batch.rows[refused.index]) == 24
    assert (deliveries.delivered, deliveries.failed, deliveries.position) == (ROWS - 1, [], ROWS)
    assert broker.logs[0] == [value for value in EVEN if value != VALUES[23]]
    assert broker.logs[1] == ODD


@pytest.mark.parametrize("code", sorted(FORBIDDEN))
def test_a_user_who_may_not_write_is_refused(
    broker: ScriptedBroker, publisher: KafkaPublisher, code: int
) -> None:
    broker.script[1] += [code]
    deliveries, [batch] = Deliveries(), batches(VALUES[:1])
    deliveries.add(batch)

    def until_it_ends() -> None:
        publisher.send(batch, lambda: True)
        settle(publisher, deliveries)

    allow = r"does not allow this user to write to the topic .*WRITE and READ"
    with pytest.raises(RefusedError, match=allow):
        until_it_ends()
    publisher.abandon()
    deliveries.settle()
    assert failed_rows(deliveries) == [1]
    assert not deliveries.failed[0][1].retryable


@pytest.mark.parametrize("code", FENCED)
def test_a_producer_that_another_one_has_fenced_ends(
    broker: ScriptedBroker, exclusive: KafkaPublisher, code: int
) -> None:
    broker.script[1] += [0, code]
    with pytest.raises(BusyError, match="taken over the topic: nothing more is sent"):
        sent(exclusive)
    assert broker.logs[1] == ODD[:5]


def test_an_exclusive_producer_leaves_no_gap_for_a_record_that_is_too_large(
    broker: ScriptedBroker, exclusive: KafkaPublisher
) -> None:
    # The second record batch, its halves, and theirs down to the first record.
    broker.script[1] += [0, 10, 10, 10]
    deliveries = sent(exclusive)
    assert broker.logs[1] == ODD[:5]
    [(batch, refused)] = deliveries.too_large
    assert int(batch.rows[refused.index]) == 11
    assert failed_rows(deliveries) == list(range(13, ROWS, 2))


def test_a_user_who_may_not_send_idempotently_is_refused_alike(
    broker: ScriptedBroker, publisher: KafkaPublisher
) -> None:
    broker.identities += [31] * 100
    with pytest.raises(RefusedError, match="does not allow this user to write to the topic"):
        sent(publisher)
    assert not broker.received


@pytest.mark.parametrize("code", [7, 14, 15, 16, 41])
def test_the_producer_id_is_requested_until_there_is_one(
    broker: ScriptedBroker, publisher: KafkaPublisher, code: int
) -> None:
    broker.identities += [code, code, code]
    check_all_there(broker, sent(publisher))


# ---- leaders -----------------------------------------------------------------------------------------


def test_a_leader_that_moves_is_followed(broker: ScriptedBroker, publisher: KafkaPublisher) -> None:
    broker.brokers[2] = ("two", 9092)
    sent(publisher, VALUES[:OF])
    broker.leaders[0] = 2
    deliveries = sent(publisher)
    assert (deliveries.delivered, deliveries.failed) == (ROWS, [])
    assert (broker.logs[0][5:], broker.logs[1][5:]) == (EVEN, ODD)
    moved = [
        place for place, batch in zip(broker.received_by, broker.received, strict=True) if not batch.partition
    ]
    assert moved[:3] == [("one", 9092), ("one", 9092), ("two", 9092)]
    assert set(moved[2:]) == {("two", 9092)}


def test_a_partition_without_a_leader_is_waited_for_and_blocks_no_other(
    broker: ScriptedBroker, publisher: KafkaPublisher
) -> None:
    broker.leaders[1] = -1
    deliveries = hand_over(publisher, VALUES, of=OF)
    wait_for(
        lambda: (
            broker.logs[0] == EVEN and "partition 1 of the topic events has no leader" in trouble(publisher)
        )
    )
    assert not broker.logs[1]
    broker.leaders[1] = 1
    settle(publisher, deliveries)
    check_all_there(broker, deliveries)


def trouble(publisher: KafkaPublisher) -> str:
    publisher.wait(0)
    return publisher.trouble


def test_a_topic_that_is_missing_for_ten_seconds_counts_as_deleted(
    broker: ScriptedBroker, publisher: KafkaPublisher, loop: SkippingLoop
) -> None:
    send(publisher, VALUES[:OF], partitions=1)
    broker.leaders.clear()
    began = loop.skipped
    deliveries = send(publisher, VALUES[OF:], partitions=1, of=OF)
    assert 10 <= loop.skipped - began < 15
    assert {(one.reason, one.retryable) for _, one in deliveries.failed} == {("the topic was deleted", True)}
    assert (deliveries.delivered, len(deliveries.failed)) == (0, ROWS - OF)
    # Nothing after the first record batch that failed is sent.
    assert {batch.sequence for batch in broker.received} == {0, OF}


def test_a_topic_that_is_missing_for_a_moment_does_not_count_as_deleted(
    broker: ScriptedBroker, publisher: KafkaPublisher, loop: SkippingLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaders, metadata = broker.leaders, broker.metadata

    def missing_at_first() -> object:
        broker.leaders = leaders if loop.skipped > 8 else {}
        return metadata()

    monkeypatch.setattr(broker, "metadata", missing_at_first)
    check_all_there(broker, sent(publisher))
    assert loop.skipped > 8


# ---- connections -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "losses",
    [
        ("request",),
        ("response",),
        ("request", "response", "response", "request"),
        ("silence",),
        ("silence", "response"),
    ],
    ids=" ".join,
)
def test_lost_requests_and_responses_cause_no_duplicate(
    broker: ScriptedBroker, publisher: KafkaPublisher, losses: tuple[Loss, ...]
) -> None:
    for partition in (0, 1):
        # Each record batch has the same fate; those that had arrived are duplicates.
        broker.script[partition] += [*losses, 0] * 6
    check_all_there(broker, sent(publisher))
    assert len(broker.received) == 12 * (len(losses) + 1)
    assert len(broker.connected) > 1


def test_a_broker_that_does_not_respond_is_named(
    broker: ScriptedBroker, publisher: KafkaPublisher, loop: SkippingLoop
) -> None:
    silent: list[int | Loss] = ["silence"]
    broker.script[0] = deque(silent * 100_000)
    deliveries = hand_over(publisher, VALUES, partitions=1)
    wait_for(lambda: trouble(publisher) == "one:9092 does not respond", 30, lambda: publisher.trouble)
    assert loop.skipped >= 45
    broker.script[0] = deque()
    settle(publisher, deliveries)
    assert (deliveries.delivered, broker.logs[0]) == (ROWS, VALUES)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(111, "whatever"), "Connect to one:9092 failed: Connection refused"),
        (OSError("no such host"), "Connect to one:9092 failed: no such host"),
        (TimeoutError(), "Connect to one:9092 failed: no response"),
        (errors.KafkaConnectionError("closed at once"), "KafkaConnectionError: closed at once"),
    ],
    ids=["refused", "unknown name", "no answer", "closed"],
)
def test_an_unreachable_broker_is_retried_until_it_is_available(
    broker: ScriptedBroker, publisher: KafkaPublisher, error: BaseException, text: str
) -> None:
    broker.refuses["one", 9092] = error
    deliveries = hand_over(publisher, VALUES, of=OF)
    wait_for(lambda: trouble(publisher) == text, 30, lambda: publisher.trouble)
    assert not broker.received
    broker.refuses.clear()
    settle(publisher, deliveries)
    check_all_there(broker, deliveries)
    assert not publisher.trouble


def test_one_reachable_bootstrap_server_is_enough(broker: ScriptedBroker, loop: SkippingLoop) -> None:
    broker.refuses["dead", 1] = ConnectionRefusedError(111, "")
    to = publisher_to(("dead", 1), ("one", 9092))
    check_all_there(broker, sent(to))
    to.abandon()


def test_a_broker_with_a_new_address_is_found_by_the_bootstrap_servers(
    broker: ScriptedBroker, publisher: KafkaPublisher
) -> None:
    broker.brokers = {1: ("two", 9092)}
    sent(publisher, VALUES[:OF])
    broker.brokers = {1: ("three", 9092)}
    broker.refuses["two", 9092] = ConnectionRefusedError(111, "")
    deliveries = hand_over(publisher, VALUES[OF:], of=OF)
    wait_for(lambda: ("three", 9092) in broker.connected, 30, lambda: f"{broker.connected}")
    settle(publisher, deliveries)
    assert (deliveries.delivered, deliveries.failed) == (ROWS - OF, [])
    assert (broker.logs[0], broker.logs[1]) == (EVEN, ODD)


# ---- the end -----------------------------------------------------------------------------------------


def test_events_that_are_given_up_do_not_arrive_later(
    broker: ScriptedBroker, publisher: KafkaPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.leaders[1] = -1
    deliveries = hand_over(publisher, VALUES, of=OF)
    wait_for(lambda: broker.logs[0] == EVEN and "no leader" in trouble(publisher))
    publisher.abandon()
    broker.leaders[1] = 1
    deliveries.settle()
    assert deliveries.empty
    assert (deliveries.delivered, failed_rows(deliveries)) == (ROWS // 2, list(range(1, ROWS, 2)))
    assert {(one.reason, one.retryable) for _, one in deliveries.failed} == {("it was given up", True)}
    assert not broker.logs[1]
    replace_network(monkeypatch, broker)
    assert sent(publisher).delivered == ROWS, "it can be used again, as another producer"
    assert (broker.logs[0], broker.logs[1]) == (EVEN + EVEN, ODD)


@pytest.mark.parametrize(
    ("raised", "error", "text"),
    [
        (RefusedError("no token for you"), RefusedError, "no token for you"),
        (ZeroDivisionError("by chance"), LakefeedError, "the sender has failed: ZeroDivisionError"),
    ],
    ids=["ours", "unforeseen"],
)
def test_a_permanent_error_ends_the_sender(
    broker: ScriptedBroker, loop: SkippingLoop, raised: Exception, error: type[Exception], text: str
) -> None:
    def refuse() -> object:
        raise raised

    to = publisher_to(("one", 9092), access=refuse)
    with pytest.raises(error, match=text):
        sent(to)
    to.abandon()
    assert not broker.received


def test_a_wait_ends_when_a_signal_arrives_as_its_timeout_expires(publisher: KafkaPublisher) -> None:
    publisher.open()
    waits, came = threading.get_ident(), threading.Event()

    def handle(*_: object) -> None:
        came.set()
        time.sleep(0.3)

    before = signal.signal(signal.SIGUSR1, handle)
    timer = threading.Timer(0.1, signal.pthread_kill, (waits, signal.SIGUSR1))
    try:
        timer.start()
        while not came.is_set():
            publisher.wait(0.2)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)


def test_the_table_of_codes_is_kafkas() -> None:
    """A code that a later aiokafka knows needs a decision."""
    assert {code for code in CODES if errors.for_code(code).retriable} == RETRIED - {2}
    assert {DUPLICATE, NOT_LEADER, OUT_OF_ORDER} == {46, 6, 45}
