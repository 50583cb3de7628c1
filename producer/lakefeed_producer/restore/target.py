"""The topic that records are restored into: checked, created, fenced, read back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka.admin import AdminClient, TopicMetadata

from lakefeed_common.errors import RefusedError
from lakefeed_producer.kafka.client import (
    ConnectionErrors,
    bootstrap_addresses,
    client_config,
    response_seconds,
    sender_options,
)
from lakefeed_producer.kafka.cluster import Cluster, Identity
from lakefeed_producer.kafka.fencing import Fence
from lakefeed_producer.kafka.reachability import WhileWaiting, fetch_metadata
from lakefeed_producer.kafka.sender import Sender
from lakefeed_producer.kafka.topic import create_topic, topic_config
from lakefeed_producer.kafka.topic_log import KafkaLog
from lakefeed_producer.restore.tail import Beat, Origin, Placed
from lakefeed_producer.settings import ProducerSettings


@dataclass(frozen=True)
class Target:
    """A topic, as settings name it.

    Attributes:
        settings: broker and topic.
        admin: a connected client.
        topic: what the cluster knows of it; None if it does not exist.
        config: its configuration by name; empty if it does not exist or may not be read.
    """

    settings: ProducerSettings
    admin: AdminClient
    topic: TopicMetadata | None
    config: dict[str, str]
    _errors: ConnectionErrors

    @classmethod
    def connect(cls, settings: ProducerSettings, while_waiting: WhileWaiting) -> Target:
        """Connect to the broker; see `kafka.connection.connect` for what it raises."""
        errors = ConnectionErrors()
        config: dict[str, Any] = {**client_config(settings), "error_cb": errors.note}
        admin = AdminClient(config)
        topic = fetch_metadata(admin, errors, settings, while_waiting).topics.get(settings.topic)
        while_waiting("")
        return cls(settings, admin, topic, topic_config(admin, settings) if topic else {}, errors)

    def check_partitions(self, partitions: int) -> None:
        """Check that a record and a key can have the same partition as before.

        Raises:
            RefusedError: the topic has another number of partitions.
        """
        if self.topic is not None and len(self.topic.partitions) != partitions:
            raise RefusedError(
                f"the topic {self.settings.topic} has {len(self.topic.partitions)} partitions, and the "
                f"origin had {partitions}: each record keeps its partition. Restore into another topic. If "
                "the origin had more partitions than there are objects of, give --partitions"
            )

    def create(self, while_waiting: WhileWaiting, config: dict[str, str]) -> str:
        """Create the topic; see `create_topic`.

        Raises:
            RefusedError: another program has created it in the meantime.
        """
        if created := create_topic(self.admin, self.settings, while_waiting, config):
            return created
        raise RefusedError(
            f"another program has just created the topic {self.settings.topic}. Run this again, so that the "
            "topic is checked first"
        )

    def fence(self, partitions: int) -> Identity:
        """Take over the topic: earlier restores into it can write nothing any more. See `Fence`."""
        name = self.settings.topic

        async def fence() -> Identity:
            cluster = Cluster(bootstrap_addresses(self.settings), lambda: sender_options(self.settings), name)
            try:
                timeout_seconds = self.settings.kafka_timeout_seconds
                return await Fence(cluster, transactional_id(name), timeout_seconds).raise_for(
                    name, range(partitions)
                )
            finally:
                await cluster.close()

        return asyncio.run(fence())

    def sender(self, identity: Identity) -> Sender:
        """A sender for the identity that `fence` returned."""
        return Sender(
            bootstrap_addresses(self.settings),
            lambda: sender_options(self.settings),
            self.settings.topic,
            identity,
        )

    def log(self) -> TargetLog:
        """What the topic holds."""
        seconds = response_seconds(self.settings)
        config = client_config(self.settings)
        log = KafkaLog(config, self.admin, self.settings.topic, seconds, lambda: self._errors.reason)
        return TargetLog(log)


class TargetLog:
    """What the topic holds; see `Log`."""

    def __init__(self, log: KafkaLog) -> None:
        self._log = log

    def bounds(self) -> tuple[list[int], list[int]]:
        """The first offsets, and the end offsets."""
        return self._log.bounds()

    def placed(self, begin: Sequence[int], end: Sequence[int], beat: Beat) -> Iterator[Placed]:
        """Yield the records; see `Log`."""
        for partition, offset, message in self._log.messages(begin, end, beat):
            headers: Any = message.headers()
            yield Placed(partition, offset, Origin.of(headers))


def transactional_id(topic: str) -> str:
    """By which two restores into a topic exclude each other."""
    return f"lakefeed-restore-{topic}"
