"""Reads the records of a Kafka topic for the journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as NoResponseError
from functools import lru_cache
from typing import Any

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from confluent_kafka.cimpl import OFFSET_SPEC_EARLIEST, OFFSET_SPEC_LATEST

from lakefeed_common.errors import LakefeedError, RefusedError, UnavailableError
from lakefeed_producer.kafka.journal import Beat, FoundRow
from lakefeed_producer.kafka.publication import Publication

_READ_RECORDS = 5_000
# librdkafka looks up the coordinator of a group that is never joined, which may be forbidden.
_HARMLESS = (KafkaError._PARTITION_EOF, KafkaError.GROUP_AUTHORIZATION_FAILED)
# Errors while a partition's leadership moves.
_LEADER_MOVES = (
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
)
_RETRY_SECONDS = 0.2
# How many requests without a response fit into the timeout.
_ATTEMPTS = 4


class KafkaLog:
    """Reads one topic.

    Args:
        config: connection settings of librdkafka.
        admin: a connected client.
        topic: the topic to read.
        timeout_seconds: how long to wait for a response, or for the next record.
        trouble: returns the last problem of the connection; empty if there is none.
    """

    def __init__(
        self,
        config: dict[str, Any],
        admin: AdminClient,
        topic: str,
        timeout_seconds: float,
        trouble: Callable[[], str],
    ) -> None:
        self._config = config
        self._admin = admin
        self._topic = topic
        self._timeout_seconds = timeout_seconds
        self._trouble = trouble

    def bounds(self) -> tuple[list[int], list[int]]:
        """First and end offsets; see `TopicLog`."""
        try:
            # Requesting metadata of the topic by name could create it.
            topic = self._admin.list_topics(timeout=self._timeout_seconds).topics.get(self._topic)
        except KafkaException as error:
            raise self._explain(error.args[0]) from None
        if topic is None or not topic.partitions:
            raise UnavailableError(f"the topic {self._topic} does not exist any more")
        count = len(topic.partitions)
        return self._offsets(OFFSET_SPEC_EARLIEST, count), self._offsets(OFFSET_SPEC_LATEST, count)

    def offsets_at(self, milliseconds: int) -> list[int]:
        """Offsets by timestamp; see `TopicLog`."""
        _, end = self.bounds()
        dated = self._offsets(max(0, milliseconds), len(end))
        return [high if offset < 0 else offset for offset, high in zip(dated, end, strict=True)]

    def read(self, begin: Sequence[int], end: Sequence[int], beat: Beat) -> Iterator[FoundRow]:
        """Yield rows; see `TopicLog`."""
        for partition, offset, message in self.messages(begin, end, beat):
            if (row := _row_of(partition, offset, message)) is not None:
                yield row

    def messages(
        self, begin: Sequence[int], end: Sequence[int], beat: Beat
    ) -> Iterator[tuple[int, int, Message]]:
        """Yield partition, offset and record from `begin` to before `end`, each partition in order."""
        left = {
            partition: high
            for partition, (low, high) in enumerate(zip(begin, end, strict=True))
            if low < high
        }
        if not left:
            return
        consumer = Consumer(
            {
                **self._config,
                # Required by the client and never joined: partitions are assigned, nothing is committed.
                "group.id": "lakefeed-producer",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                # Retention may delete the first records before they are read.
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 100,
                # librdkafka decodes all that it has fetched, with some hundred bytes of overhead per record.
                "queued.max.messages.kbytes": 1_024,
                "max.partition.fetch.bytes": 128 << 10,
                "fetch.queue.backoff.ms": 5,
            }
        )
        try:
            consumer.assign([TopicPartition(self._topic, one, begin[one]) for one in left])
            yield from self._read(consumer, left, beat)
        finally:
            consumer.close()

    def _read(
        self, consumer: Consumer, left: dict[int, int], beat: Beat
    ) -> Iterator[tuple[int, int, Message]]:
        heard = time.monotonic()
        while left:
            beat()
            messages = consumer.consume(_READ_RECORDS, timeout=0.2)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > self._timeout_seconds:
                raise UnavailableError(
                    self._with_trouble(f"the topic {self._topic} cannot be read to its end")
                )
            for message in messages:
                partition, offset = message.partition(), message.offset()
                error = message.error()
                if error is not None and error.code() not in _HARMLESS:
                    raise self._explain(error)
                if partition is None or offset is None or partition not in left:
                    continue
                if error is None and offset < left[partition]:
                    yield partition, offset, message
                # The end of a partition is an event too: its last offsets may be transaction markers.
                if error is not None or offset + 1 >= left[partition]:
                    del left[partition]

    def _offsets(self, spec: int, partitions: int) -> list[int]:
        """Offsets by a timestamp in milliseconds, or by one of librdkafka's special values.

        Retries while a partition's leadership moves, until the timeout.
        """
        end = time.monotonic() + self._timeout_seconds
        admin = self._admin
        while True:
            try:
                return self._offsets_now(admin, spec, partitions)
            except KafkaException as error:
                if error.args[0].code() not in _LEADER_MOVES or time.monotonic() > end:
                    raise self._explain(error.args[0]) from None
            except NoResponseError:
                if time.monotonic() > end:
                    raise UnavailableError(
                        self._with_trouble(
                            f"no response from Kafka about the offsets of the topic {self._topic} within "
                            f"{self._timeout_seconds:g} s: one of its partitions may have no leader. "
                            "Try again when its brokers are available"
                        )
                    ) from None
            time.sleep(_RETRY_SECONDS)
            # The same client would keep using the leaders and epochs in its cache.
            admin = AdminClient(self._config)

    def _offsets_now(self, admin: AdminClient, spec: int, partitions: int) -> list[int]:
        """Request offsets once.

        Raises:
            KafkaException: the response for a partition is an error.
            NoResponseError: there is no response for a partition.
        """
        requests = {
            TopicPartition(self._topic, one): OffsetSpec(spec)  # type: ignore[abstract] # it returns the right subclass
            for one in range(partitions)
        }
        seconds = self._timeout_seconds / _ATTEMPTS
        futures = admin.list_offsets(requests, request_timeout=seconds)
        found = {place.partition: future.result(seconds + 1).offset for place, future in futures.items()}
        # librdkafka reports no error for an unreachable leader: its rows would count as missing.
        if OFFSET_INVALID in found.values():
            raise NoResponseError
        return [found[partition] for partition in range(partitions)]

    def _explain(self, error: KafkaError) -> LakefeedError:
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return RefusedError(
                f"the broker does not allow this user to read the topic {self._topic} ({error.str()}), "
                "which is needed to find the rows that it already has. Allow the user to READ it"
            )
        return UnavailableError(self._with_trouble(f"the topic {self._topic} cannot be read: {error.str()}"))

    def _with_trouble(self, problem: str) -> str:
        trouble = self._trouble()
        if trouble:
            problem = f"{problem} ({trouble})"
        return f"{problem}. Check that the broker is reachable, and try again"


# Thousands of consecutive records have the same publication.
_publication = lru_cache(Publication.of)


def _row_of(partition: int, offset: int, message: Message) -> FoundRow | None:
    try:
        values: dict[str, Any] = dict(message.headers() or ())
        publication = _publication(values["source"], values["publication"])
        row = int(values["row"])
    except (KeyError, TypeError, ValueError):
        return None  # of another application
    return FoundRow(partition, offset, publication, row) if publication and row > 0 else None
