"""What a run asks of Kafka as a client: the topic, broken records, everything read back, offsets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.chaos.verify import Entry, RowId

_SECONDS = 10.0
_CREATE_SECONDS = 60.0
_NEVER_LEFT = (
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
)


class Topic:
    """One topic, with the consumer group that reads it."""

    def __init__(self, servers: str, name: str, group: str, partitions: int) -> None:
        self.name = name
        self.group = group
        self._servers = servers
        self._places = [TopicPartition(name, number) for number in range(partitions)]
        self._unsent: list[tuple[RowId, bytes | None]] = []
        self._producer, self._broken = self._new_producer(), False

    def _new_producer(self) -> Producer:
        """One that sends a record until it has arrived, once, however long the broker is unreachable."""
        return Producer(
            {
                "bootstrap.servers": self._servers,
                "enable.idempotence": True,
                "message.timeout.ms": 0,
                "log_level": 0,
            }
        )

    def create(self) -> None:
        """Make the topic, with as many replicas as the broker gives it."""
        admin = AdminClient({"bootstrap.servers": self._servers})
        new = NewTopic(self.name, len(self._places))
        admin.create_topics([new])[self.name].result(_CREATE_SECONDS)

    def send(self, row: RowId, value: bytes | None) -> None:
        """Hand over a record with the headers that identify it; see `flush`."""
        self._unsent.append((row, value))
        self.flush()

    def flush(self) -> bool:
        """Send what has not left; returns whether all has arrived.

        A broker that has just started knows no topics for a moment: then records fail that have never left,
        and leave a hole in the numbers of an idempotent producer, which takes a new one.

        Raises:
            KafkaException: a record has failed for another reason.
        """
        if self._producer.flush(0.1):
            return False
        if self._broken:
            self._producer, self._broken = self._new_producer(), False
        unsent, self._unsent = self._unsent, []
        for row, value in unsent:
            self._producer.produce(
                self.name,
                value,
                headers=[("source", row[0].encode()), ("row", b"%d" % row[1])],
                on_delivery=partial(self._delivered, row, value),
            )
        return not unsent

    def _delivered(self, row: RowId, value: bytes | None, error: KafkaError | None, _: Message) -> None:
        if error is None:
            return
        if error.code() not in _NEVER_LEFT:
            raise KafkaException(error)
        self._unsent.append((row, value))
        self._broken = True

    def ends(self) -> dict[int, int]:
        """The end of each partition's log.

        Raises:
            KafkaException: the broker does not answer.
        """
        consumer = self._consumer()
        try:
            return {
                place.partition: consumer.get_watermark_offsets(place, timeout=_SECONDS)[1]
                for place in self._places
            }
        finally:
            consumer.close()

    def committed(self) -> dict[int, int]:
        """The group's committed offset of each partition; 0 before the first commit.

        Raises:
            KafkaException: the broker does not answer.
        """
        consumer = self._consumer()
        try:
            found = consumer.committed(self._places, timeout=_SECONDS)
        finally:
            consumer.close()
        return {place.partition: max(0, place.offset) for place in found}

    def progress(self) -> tuple[int, int] | None:
        """Records committed and records in the topic; None while the broker does not answer."""
        try:
            return sum(self.committed().values()), sum(self.ends().values())
        except KafkaException:
            return None

    def read(self) -> list[Entry]:
        """All records, in offset order for each partition."""
        consumer, ends = self._consumer(), self.ends()
        entries: list[Entry] = []
        try:
            for place in self._places:
                consumer.assign([TopicPartition(self.name, place.partition, 0)])
                position = 0
                while position < ends[place.partition]:
                    for message in consumer.consume(5000, timeout=0.2):
                        if message.error() is not None:
                            raise KafkaException(message.error())
                        entries.append(_entry(message))
                    position = max(position, consumer.position([place])[0].offset)
        finally:
            consumer.close()
        return entries

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._servers,
                "group.id": self.group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "log_level": 0,
            }
        )


def _entry(message: Any) -> Entry:
    headers = dict(message.headers() or ())
    return Entry(
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        (headers["source"].decode(), int(headers["row"])),
        message.value(),
    )


def rebalances(broker_logs: Iterable[Path], group: str) -> int:
    """How often the group came to a new generation, as the brokers' coordinators log it."""
    stabilized = re.compile(rf"Stabilized group {re.escape(group)} generation (\d+)")
    return len(
        {found for log in broker_logs for found in stabilized.findall(log.read_text(errors="replace"))}
    )
