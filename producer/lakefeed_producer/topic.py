"""The records of a topic in Kafka, as the journal reads them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as NotYetError
from functools import lru_cache
from typing import Any

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from confluent_kafka.cimpl import OFFSET_SPEC_EARLIEST, OFFSET_SPEC_LATEST

from lakefeed_common.errors import LakefeedError, RefusedError, UnavailableError
from lakefeed_producer.arrivals import Publication
from lakefeed_producer.journal import Beat, Found

_READ_RECORDS = 5_000
# The second comes of librdkafka looking for a group, which nobody joins.
_HARMLESS = (KafkaError._PARTITION_EOF, KafkaError.GROUP_AUTHORIZATION_FAILED)
# What is answered until each broker knows a partition's new leader.
_LEADER_MOVES = (
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
)
_AGAIN_SECONDS = 0.2
# How many questions without an answer fit into the time limit.
_QUESTIONS = 4


class KafkaLog:
    """Reads one topic.

    Args:
        config: connection settings of librdkafka.
        admin: a connected client.
        topic: what is read.
        timeout_seconds: how long an answer, or the next record, is waited for.
        trouble: says what the connection last suffered from.
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
        """First offsets and ends; see `TopicLog`."""
        try:
            # Asking for the topic by its name could make it.
            topic = self._admin.list_topics(timeout=self._timeout_seconds).topics.get(self._topic)
        except KafkaException as error:
            raise self._explain(error.args[0]) from None
        if topic is None or not topic.partitions:
            raise UnavailableError(f"the topic {self._topic} is gone")
        count = len(topic.partitions)
        return self._offsets(OFFSET_SPEC_EARLIEST, count), self._offsets(OFFSET_SPEC_LATEST, count)

    def offsets_at(self, milliseconds: int) -> list[int]:
        """Where a time begins; see `TopicLog`."""
        _, end = self.bounds()
        dated = self._offsets(max(0, milliseconds), len(end))
        return [high if offset < 0 else offset for offset, high in zip(dated, end, strict=True)]

    def read(self, begin: Sequence[int], end: Sequence[int], beat: Beat) -> Iterator[Found]:
        """Our records; see `TopicLog`."""
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
                # Needed for the client, and never joined: partitions are assigned, nothing is committed.
                "group.id": "lakefeed-producer",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                # Retention may delete what was still there a moment ago.
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 100,
                # librdkafka unpacks all that it has fetched, at some hundred bytes a record besides.
                "queued.max.messages.kbytes": 1_024,
                "max.partition.fetch.bytes": 128 << 10,
                "fetch.queue.backoff.ms": 5,
            }
        )
        try:
            consumer.assign([TopicPartition(self._topic, one, begin[one]) for one in left])
            yield from self._found(consumer, left, beat)
        finally:
            consumer.close()

    def _found(self, consumer: Consumer, left: dict[int, int], beat: Beat) -> Iterator[Found]:
        heard = time.monotonic()
        while left:
            beat()
            messages = consumer.consume(_READ_RECORDS, timeout=0.2)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > self._timeout_seconds:
                raise UnavailableError(self._said(f"nothing more can be read of the topic {self._topic}"))
            for message in messages:
                partition, offset = message.partition(), message.offset()
                error = message.error()
                if error is not None and error.code() not in _HARMLESS:
                    raise self._explain(error)
                if partition is None or offset is None or partition not in left:
                    continue
                if error is None and offset < left[partition]:
                    found = _found(partition, offset, message)
                    if found is not None:
                        yield found
                # The end of a partition is also told, as its last records may not be ours to see.
                if error is not None or offset + 1 >= left[partition]:
                    del left[partition]

    def _offsets(self, spec: int, partitions: int) -> list[int]:
        """Offsets by a time in milliseconds, or by one of librdkafka's own marks.

        While a partition's leader moves they are asked for again, until the time limit.
        """
        end = time.monotonic() + self._timeout_seconds
        admin = self._admin
        while True:
            try:
                return self._offsets_now(admin, spec, partitions)
            except KafkaException as error:
                if error.args[0].code() not in _LEADER_MOVES or time.monotonic() > end:
                    raise self._explain(error.args[0]) from None
            except NotYetError:
                if time.monotonic() > end:
                    raise UnavailableError(
                        self._said(
                            f"no answer from Kafka about the offsets of the topic {self._topic} within "
                            f"{self._timeout_seconds:g} s: one of its partitions may have no leader. "
                            "Try again when its brokers are well"
                        )
                    ) from None
            time.sleep(_AGAIN_SECONDS)
            # The same client would go on with the leaders and epochs that it knows.
            admin = AdminClient(self._config)

    def _offsets_now(self, admin: AdminClient, spec: int, partitions: int) -> list[int]:
        """One question for offsets.

        Raises:
            KafkaException: the answer for a partition is an error.
            NotYetError: there is no answer for a partition.
        """
        asked = {
            TopicPartition(self._topic, one): OffsetSpec(spec)  # type: ignore[abstract] # it makes the right kind
            for one in range(partitions)
        }
        seconds = self._timeout_seconds / _QUESTIONS
        futures = admin.list_offsets(asked, request_timeout=seconds)
        found = {place.partition: future.result(seconds + 1).offset for place, future in futures.items()}
        # librdkafka reports no error for a leader that is away: its rows would count as missing.
        if OFFSET_INVALID in found.values():
            raise NotYetError
        return [found[partition] for partition in range(partitions)]

    def _explain(self, error: KafkaError) -> LakefeedError:
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return RefusedError(
                f"the broker does not allow this user to read the topic {self._topic} ({error.str()}), so "
                "nobody knows what of the file has arrived. Allow the user to READ it"
            )
        return UnavailableError(self._said(f"the topic {self._topic} cannot be read: {error.str()}"))

    def _said(self, what: str) -> str:
        trouble = self._trouble()
        return f"{what} ({trouble})" if trouble else what


# Thousands of records in a row have the same.
_publication = lru_cache(Publication.of)


def _found(partition: int, offset: int, message: Message) -> Found | None:
    try:
        values: dict[str, Any] = dict(message.headers() or ())
        publication = _publication(values["source"], values["publication"])
        row = int(values["row"])
    except (KeyError, TypeError, ValueError):
        return None  # of another program
    return Found(partition, offset, publication, row) if publication and row > 0 else None
