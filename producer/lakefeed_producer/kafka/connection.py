"""Connects to the broker and its topic."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka.admin import AdminClient

from lakefeed_producer.kafka.client import (
    ConnectionErrors,
    bootstrap_addresses,
    client_config,
    response_seconds,
    sender_options,
)
from lakefeed_producer.kafka.journal import Journal
from lakefeed_producer.kafka.publisher import KafkaPublisher
from lakefeed_producer.kafka.reachability import WhileWaiting, fetch_metadata
from lakefeed_producer.kafka.sender import Sender
from lakefeed_producer.kafka.topic import ensure_topic, has_topic, max_message_bytes, topic_config
from lakefeed_producer.kafka.topic_log import KafkaLog
from lakefeed_producer.settings import ProducerSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Connection:
    """A connection to one topic.

    Attributes:
        publisher: sends to the topic.
        journal: knows which files it has.
        notes: what the user should know about the topic.
        is_usable: whether the broker responds now and has the topic.
    """

    publisher: KafkaPublisher
    journal: Journal
    notes: list[str]
    is_usable: Callable[[], bool]


def connect(settings: ProducerSettings, while_waiting: WhileWaiting = lambda _: None) -> Connection:
    """Connect to the broker, and create the topic if it does not exist.

    Args:
        settings: where the broker is, and how the topic should be created.
        while_waiting: called while there is no response yet.

    Raises:
        UnavailableError: no response within the timeout, or an advertised address is unreachable.
        RefusedError: the broker does not accept the user, or refused to create the topic.
    """
    errors = ConnectionErrors()
    config: dict[str, Any] = {**client_config(settings), "error_cb": errors.note}
    admin = AdminClient(config)
    metadata = fetch_metadata(admin, errors, settings, while_waiting)
    notes = ensure_topic(metadata.topics.get(settings.topic), admin, settings, while_waiting)
    while_waiting("")
    publisher = KafkaPublisher(
        partial(Sender, bootstrap_addresses(settings), partial(sender_options, settings), settings.topic),
        max_message_bytes=max_message_bytes(topic_config(admin, settings)),
        compression=settings.compression,
    )
    records = KafkaLog(
        client_config(settings), admin, settings.topic, response_seconds(settings), lambda: errors.reason
    )
    # It connects while the file is read.
    publisher.open()
    return Connection(publisher, Journal(records), notes, partial(has_topic, admin, settings))


class BrokerLink:
    """The connection of a long-running service: kept while it is usable, reopened otherwise."""

    def __init__(self, settings: ProducerSettings) -> None:
        self._settings = settings
        self._connection: Connection | None = None

    def open(self, while_waiting: WhileWaiting) -> Connection:
        """The open connection, or a new one; see `connect` for what it raises."""
        if self._connection is None:
            self._connection = connect(self._settings, while_waiting)
            for note in self._connection.notes:
                log.info("%s%s", note[:1].upper(), note[1:])
        return self._connection

    def drop(self) -> None:
        """Close the connection, and give up all events without an acknowledgement."""
        if self._connection is not None:
            self._connection.publisher.abandon()
            self._connection = None

    def is_usable(self) -> bool:
        """Whether the broker responds and has the topic."""
        return self._connection is not None and self._connection.is_usable()
