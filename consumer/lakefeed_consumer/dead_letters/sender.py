"""Sends the records of dead letters back to Kafka, byte for byte."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidMessageError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownError,
)
from aiokafka.partitioner import DefaultPartitioner

from lakefeed_common import kafka_client
from lakefeed_common.errors import RefusedError, UnavailableError
from lakefeed_common.lake.records import Record
from lakefeed_consumer.dead_letters.archive import Position
from lakefeed_consumer.faust_driver.topic_check import check_topic
from lakefeed_consumer.settings import ConsumerSettings

# Errors about the record, not the broker. The broker has more reasons than aiokafka has names for.
_RECORD_ERRORS = (InvalidMessageError, MessageSizeTooLargeError, RecordListTooLargeError, UnknownError)


class RecordRefusedError(RefusedError):
    """The broker rejects this record; it may accept others."""


class RecordSender:
    """Sends records one after the other, each acknowledged by all in-sync replicas.

    Entering it connects to nothing: the first record for a topic raises what is wrong.
    """

    def __init__(self, settings: ConsumerSettings) -> None:
        self._settings = settings
        self._producer: Any = None
        self._partitions: dict[str, list[int]] = {}
        self._by_key = DefaultPartitioner()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._disconnect()

    async def send(self, topic: str, record: Record) -> Position:
        """Send a record's key, value and headers, and wait for the acknowledgement; its timestamp is new.

        It goes to the partition that it had, so that it stays with related records; if the topic has no such
        partition, its key decides.

        Returns:
            The record's new position.

        Raises:
            UnavailableError: the broker does not answer; it may have stored the record all the same.
            RecordRefusedError: the broker rejects this record.
            RefusedError: the broker refuses the connection or the write.
            MissingError: there is no such topic.
        """
        try:
            partitions = self._partitions.get(topic) or await self._find_partitions(topic)
            number = record.partition.number
            if number not in partitions:
                number = self._by_key(record.key, partitions, partitions)
            producer = await self._connect()
            # Its `send` does not accept a record without key and value; a batch of one does.
            batch = producer.create_batch()
            batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers))
            acknowledged = await producer.send_batch(batch, topic, partition=number)
            return Position(topic, number, (await acknowledged).offset)
        except KafkaError as error:
            # A failed record leaves a gap in this producer's sequence: the next record needs a new producer.
            await self._disconnect()
            raise self._explain(topic, error) from error

    async def _find_partitions(self, topic: str) -> list[int]:
        await check_topic(self._settings.model_copy(update={"topic": topic}))
        producer = await self._connect()
        self._partitions[topic] = sorted(await producer.partitions_for(topic))
        return self._partitions[topic]

    async def _connect(self) -> Any:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                bootstrap_servers=self._settings.kafka_bootstrap_servers.split(","),
                enable_idempotence=True,
                acks="all",
                request_timeout_ms=int(self._settings.kafka_timeout_seconds * 1000),
                **kafka_client.options(self._settings),
            )
            await self._producer.start()
        return self._producer

    async def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    def _explain(self, topic: str, error: KafkaError) -> UnavailableError | RefusedError:
        where = f"topic {topic} at {self._settings.kafka_bootstrap_servers}"
        if isinstance(error, _RECORD_ERRORS):
            return RecordRefusedError(
                f"{where} rejects it ({error!r}). Check the topic's max.message.bytes and cleanup.policy."
            )
        if isinstance(error, TopicAuthorizationFailedError):
            return RefusedError(
                f"{where}: this user may not write to it. Check LAKEFEED_KAFKA_SASL_USERNAME."
            )
        return UnavailableError(
            f"{where} does not accept records now ({error!r}). Try again later: what was sent is marked, and "
            "the last record may have arrived without a mark."
        )
