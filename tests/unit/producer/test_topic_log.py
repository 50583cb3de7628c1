"""Offsets of a topic: found while a leader moves; a missing response is never an empty partition."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_END, OFFSET_INVALID, KafkaError, KafkaException, TopicPartition

from lakefeed_common.errors import LakefeedError, RefusedError, UnavailableError
from lakefeed_producer.kafka import topic_log
from lakefeed_producer.kafka.topic_log import KafkaLog

MOVES = (
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.OFFSET_NOT_AVAILABLE,
)
ERRORS = {*MOVES, KafkaError.INVALID_MSG, KafkaError.TOPIC_AUTHORIZATION_FAILED}


class Broker:
    """Responds with offsets of two partitions; the first responses for the second one are given.

    Attributes:
        responses: error codes of Kafka, or offsets.
        clients: how many have connected.
    """

    def __init__(self, *responses: int) -> None:
        self.responses = list(responses)
        self.clients = 0

    def admin(self, _: object = None) -> Any:
        self.clients += 1
        return SimpleNamespace(list_topics=self._list_topics, list_offsets=self._list_offsets)

    def _list_topics(self, timeout: float) -> SimpleNamespace:
        return SimpleNamespace(topics={"t": SimpleNamespace(partitions={0: None, 1: None})})

    def _list_offsets(
        self, requested: Mapping[TopicPartition, Any], request_timeout: float
    ) -> dict[Any, Any]:
        response = self.responses.pop(0) if self.responses else 600
        first, second = Future[SimpleNamespace](), Future[SimpleNamespace]()
        first.set_result(SimpleNamespace(offset=500))
        if response in ERRORS:
            second.set_exception(KafkaException(KafkaError(response)))
        else:
            second.set_result(SimpleNamespace(offset=response))
        return dict(zip(requested, (first, second), strict=True))


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()
    monkeypatch.setattr(topic_log, "_RETRY_SECONDS", 0)
    monkeypatch.setattr(topic_log, "AdminClient", broker.admin)
    return broker


def log(broker: Broker, timeout_seconds: float = 30) -> KafkaLog:
    return KafkaLog({}, broker.admin(), "t", timeout_seconds, lambda: "")


def test_offsets_are_requested_again_by_a_new_client_while_a_leader_moves(broker: Broker) -> None:
    broker.responses = [*MOVES, OFFSET_INVALID]
    assert log(broker).bounds() == ([500, 600], [500, 600])
    assert not broker.responses
    assert broker.clients == 1 + len(MOVES) + 1


def test_a_missing_response_is_not_an_empty_partition(broker: Broker) -> None:
    broker.responses = [OFFSET_INVALID] * 2
    with pytest.raises(UnavailableError, match="no response from Kafka"):
        log(broker, timeout_seconds=-1).bounds()


def test_a_time_after_the_last_record_is_the_end(broker: Broker) -> None:
    broker.responses = [600, 600, OFFSET_END]
    assert log(broker).offsets_at(1_000) == [500, 600]
    broker.responses = [600, 600, OFFSET_INVALID, 400]
    assert log(broker).offsets_at(1_000) == [500, 400]


@pytest.mark.parametrize(
    ("error", "timeout_seconds", "kind"),
    [
        (KafkaError.FENCED_LEADER_EPOCH, -1, UnavailableError),
        (KafkaError.INVALID_MSG, 30, UnavailableError),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, 30, RefusedError),
    ],
)
def test_a_permanent_error_is_raised(
    error: int, timeout_seconds: float, kind: type[LakefeedError], broker: Broker
) -> None:
    broker.responses = [error] * 2
    with pytest.raises(kind, match="the topic t"):
        log(broker, timeout_seconds).bounds()
    assert len(broker.responses) == 1
