"""Sends dead letters back to Kafka, byte for byte, and marks them as replayed.

A letter is marked when the broker has acknowledged it. Whoever is killed between the two leaves letters that
were sent and have no mark, and the next replay sends them again: at least once. No header could tell the
second record from the first, because what comes back has exactly the headers that it had.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import replace
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
from lakefeed_common.errors import LakefeedError, RefusedError, UnavailableError
from lakefeed_consumer.faust_driver.topic_check import check_topic
from lakefeed_consumer.letters import Found, Letters, Position
from lakefeed_consumer.record import Record
from lakefeed_consumer.settings import ConsumerSettings

# What the broker says of a record, not of itself. It has more reasons than aiokafka has names for.
_OF_THE_RECORD = (InvalidMessageError, MessageSizeTooLargeError, RecordListTooLargeError, UnknownError)


class RecordRefusedError(RefusedError):
    """The broker does not take this record; it may take others."""


class Sender:
    """Sends records one after the other, each acknowledged by all replicas in sync.

    Entering it connects to nothing: what cannot be used is told by the first record for a topic.
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
        """Send a record's value, key and headers, and wait for the broker; its timestamp is new.

        It goes to the partition that it had, next to those that it belongs with; where the topic has no such
        partition, its key chooses.

        Returns:
            Where it is now.

        Raises:
            UnavailableError: the broker does not answer; it may have the record all the same.
            RecordRefusedError: the broker does not take this record.
            RefusedError: the broker does not let us in.
            MissingError: there is no such topic.
        """
        try:
            partitions = self._partitions.get(topic) or await self._find(topic)
            number = record.partition.number
            if number not in partitions:
                number = self._by_key(record.key, partitions, partitions)
            producer = await self._connect()
            # Its `send` takes no record without both key and value; a batch of one does.
            batch = producer.create_batch()
            batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers))
            acknowledged = await producer.send_batch(batch, topic, partition=number)
            return Position(topic, number, (await acknowledged).offset)
        except KafkaError as error:
            # A record that failed has left a gap in this producer's sequence: the next one needs another.
            await self._disconnect()
            raise self._explain(topic, error) from error

    async def _find(self, topic: str) -> list[int]:
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
        if isinstance(error, _OF_THE_RECORD):
            return RecordRefusedError(
                f"{where} does not take it ({error!r}). "
                "Look at the topic's max.message.bytes and cleanup.policy."
            )
        if isinstance(error, TopicAuthorizationFailedError):
            return RefusedError(
                f"{where}: this user may not write to it. Check LAKEFEED_KAFKA_SASL_USERNAME."
            )
        return UnavailableError(
            f"{where} does not take records now ({error!r}). Try again later: what was sent is marked, and "
            "the last record may have arrived unmarked."
        )


async def replay(
    letters: Letters, sender: Sender, batches: AsyncIterable[list[Found]], to: str | None
) -> AsyncIterator[tuple[Found, Position | None]]:
    """Send letters to a topic, or each to its own, and mark them.

    Yields:
        Each letter with the position that its record has now, or None where it was not sent because it is
        damaged or the broker does not take it; `reason` then says so.

    Raises:
        LakefeedError: the broker or the bucket cannot be used. What was sent is marked, if the bucket can.
    """
    async for batch in batches:
        done: list[tuple[Found, Position | None]] = []
        failure: LakefeedError | None = None
        try:
            for found in batch:
                done.append(await _send(sender, found, to))  # noqa: PERF401 - it is needed as far as it came
        except LakefeedError as error:
            failure = error
        finally:
            # Also when interrupted: what was sent shall not be sent again.
            await asyncio.gather(
                *(letters.mark(found.place, position) for found, position in done if position)
            )
        for each in done:
            yield each
        if failure is not None:
            raise failure


async def _send(sender: Sender, found: Found, to: str | None) -> tuple[Found, Position | None]:
    if found.letter is None:
        return found, None
    record = found.letter.record
    try:
        return found, await sender.send(to or record.partition.topic, record)
    except RecordRefusedError as error:
        return replace(found, reason=str(error)), None
