"""What a run asks of Kafka as a client: the topic, broken records, everything read back, offsets."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.chaos.verify import Entry, RowId

_SECONDS = 10.0


class Topic:
    """One topic, with the consumer group that reads it."""

    def __init__(self, servers: str, name: str, group: str, partitions: int) -> None:
        self.name = name
        self.group = group
        self._servers = servers
        self._places = [TopicPartition(name, number) for number in range(partitions)]
        self._again: list[tuple[RowId, bytes | None]] = []
        # A record is sent until it has arrived, once, however long the broker is away.
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                "message.timeout.ms": 0,
                "log_level": 0,
            }
        )

    def create(self) -> None:
        """Make the topic."""
        admin = AdminClient({"bootstrap.servers": self._servers})
        new = NewTopic(self.name, len(self._places), 1)
        admin.create_topics([new])[self.name].result(_SECONDS)

    def send(self, row: RowId, value: bytes | None) -> None:
        """Hand over a record with the headers that tell which it is."""
        self._producer.produce(
            self.name,
            value,
            headers=[("source", row[0].encode()), ("row", b"%d" % row[1])],
            on_delivery=partial(self._delivered, row, value),
        )
        self._producer.poll(0)

    def _delivered(self, row: RowId, value: bytes | None, error: KafkaError | None, _: Message) -> None:
        # A broker that has just started knows no topics for a moment. Such a record has never left.
        if error is not None and error.code() == KafkaError._UNKNOWN_TOPIC:
            self._again.append((row, value))
        elif error is not None:
            raise KafkaException(error)

    def flush(self) -> bool:
        """Whether all that was sent has arrived.

        Raises:
            KafkaException: some of it never will.
        """
        again, self._again = self._again, []
        for row, value in again:
            self.send(row, value)
        return self._producer.flush(0.1) == 0 and not self._again

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


def rebalances(broker_log: Path, group: str) -> int:
    """How often the group came to a new generation, as the broker's coordinator tells."""
    stabilized = re.compile(rf"Stabilized group {re.escape(group)} generation (\d+)")
    return len(set(stabilized.findall(broker_log.read_text(errors="replace"))))
