"""The topic: compared with the settings, or created."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType, TopicMetadata

from lakefeed_common.errors import LakefeedError, RefusedError, UnavailableError
from lakefeed_producer.kafka.client import response_seconds
from lakefeed_producer.kafka.publisher import DEFAULT_MAX_MESSAGE_BYTES
from lakefeed_producer.kafka.reachability import WhileWaiting
from lakefeed_producer.settings import ProducerSettings


def ensure_topic(
    topic: TopicMetadata | None, admin: AdminClient, settings: ProducerSettings, while_waiting: WhileWaiting
) -> list[str]:
    """Create the topic if it does not exist.

    Returns:
        What a user should know about it.

    Raises:
        UnavailableError: it was created, but has no leader within the timeout.
        RefusedError: the broker refused to create it.
    """
    if topic is None:
        if created := create_topic(admin, settings, while_waiting):
            return [created]
        topic = _wait_for_leaders(admin, settings, while_waiting)
    return _differences(topic, settings)


def has_topic(admin: AdminClient, settings: ProducerSettings) -> bool:
    """Whether the broker responds and has the topic."""
    try:
        # Requesting metadata of the topic by name could create it.
        return settings.topic in admin.list_topics(timeout=response_seconds(settings)).topics
    except KafkaException:
        return False


def topic_config(admin: AdminClient, settings: ProducerSettings) -> dict[str, str]:
    """The topic's configuration by name; empty if this user may not read it."""
    resource = ConfigResource(ResourceType.TOPIC, settings.topic)
    futures: Iterable[Any] = admin.describe_configs(
        [resource], request_timeout=response_seconds(settings)
    ).values()
    try:
        for future in futures:
            return {name: str(entry.value) for name, entry in future.result().items()}
    except KafkaException:
        pass
    return {}


def max_message_bytes(config: Mapping[str, str]) -> int:
    """The size of the largest record batch that a topic accepts; a default if that is not readable."""
    return int(config.get("max.message.bytes", DEFAULT_MAX_MESSAGE_BYTES))


def _differences(topic: TopicMetadata, settings: ProducerSettings) -> list[str]:
    partitions = len(topic.partitions)
    replicas = max((len(partition.replicas) for partition in topic.partitions.values()), default=0)
    if (partitions, replicas) == (settings.topic_partitions, settings.topic_replicas):
        return []
    return [
        f"the topic {settings.topic} has {_size(partitions, replicas)}, unlike "
        f"LAKEFEED_TOPIC_PARTITIONS={settings.topic_partitions} and "
        f"LAKEFEED_TOPIC_REPLICAS={settings.topic_replicas}; it is used as it is"
    ]


def _size(partitions: int, replicas: int) -> str:
    def count(number: int, noun: str) -> str:
        return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

    return f"{count(partitions, 'partition')} and {count(replicas, 'replica')} each"


def create_topic(
    admin: AdminClient,
    settings: ProducerSettings,
    while_waiting: WhileWaiting,
    config: Mapping[str, str] | None = None,
) -> str | None:
    """Create the topic, and wait until it has leaders.

    Args:
        admin: a connected client.
        settings: the topic, its partitions and replicas.
        while_waiting: called while it has no leader yet.
        config: settings of the topic that differ from the broker's.

    Returns:
        What was done; None if another program has created the topic in the meantime, perhaps differently.

    Raises:
        UnavailableError: it was created, but has no leader within the timeout.
        RefusedError: the broker refused to create it.
    """
    partitions, replicas = settings.topic_partitions, settings.topic_replicas
    new = NewTopic(settings.topic, partitions, replicas, config=dict(config or {}))
    seconds = response_seconds(settings)
    futures = admin.create_topics([new], operation_timeout=seconds, request_timeout=2 * seconds)
    try:
        futures[settings.topic].result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise _cannot_create(error.args[0], settings) from None
        return None
    _wait_for_leaders(admin, settings, while_waiting)
    return f"created the topic {settings.topic} with {_size(partitions, replicas)}"


def _cannot_create(error: KafkaError, settings: ProducerSettings) -> LakefeedError:
    problem = f"the topic {settings.topic} cannot be created: {error.str().rstrip('.')}"
    match error.code():
        case KafkaError.INVALID_REPLICATION_FACTOR:
            advice = (
                f"LAKEFEED_TOPIC_REPLICAS={settings.topic_replicas} is more than there are brokers: "
                "set it lower"
            )
        case KafkaError.TOPIC_AUTHORIZATION_FAILED | KafkaError.CLUSTER_AUTHORIZATION_FAILED:
            advice = (
                "This user may not create topics: ask an administrator to create it, or allow the user to "
                "CREATE and DESCRIBE it"
            )
        case KafkaError.POLICY_VIOLATION | KafkaError.INVALID_PARTITIONS | KafkaError.INVALID_CONFIG:
            advice = "Set LAKEFEED_TOPIC_PARTITIONS and LAKEFEED_TOPIC_REPLICAS to what the broker allows"
        case KafkaError.TOPIC_EXCEPTION:
            advice = "Choose another name with --topic"
        case _ if error.retriable() or error.code() == KafkaError._TIMED_OUT:
            return UnavailableError(f"{problem}. Try again when the broker is available")
        case _:
            advice = "See the broker's log"
    return RefusedError(f"{problem}. {advice}")


def _wait_for_leaders(
    admin: AdminClient, settings: ProducerSettings, while_waiting: WhileWaiting
) -> TopicMetadata:
    end = time.monotonic() + settings.kafka_timeout_seconds
    while time.monotonic() < end:
        try:
            topic = admin.list_topics(settings.topic, timeout=1.0).topics[settings.topic]
        except KafkaException:
            continue
        if topic.partitions and all(partition.leader >= 0 for partition in topic.partitions.values()):
            return topic
        while_waiting("the new topic has no leader yet")
        time.sleep(0.05)
    raise UnavailableError(
        f"the topic {settings.topic} was created but has no leader after "
        f"{settings.kafka_timeout_seconds:g} s. Check that enough brokers are running"
    )
