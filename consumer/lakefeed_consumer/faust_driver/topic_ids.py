"""Topic IDs: a recreated topic has another ID than the one that had its name before.

aiokafka 0.14 implements Metadata up to version 5; IDs come with version 10, of Kafka 2.8.
"""

from __future__ import annotations

from collections.abc import Collection
from io import BytesIO
from typing import Any

from aiokafka.client import ConnectionGroup
from aiokafka.errors import NoError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

from lakefeed_consumer.faust_driver.commits import PartitionKey

_METADATA, _VERSION = 3, 10
_NO_ID = bytes(16)


class _Uuid(AbstractType[bytes]):  # type: ignore[misc]  # aiokafka has no types
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(len(_NO_ID))


_STRING = CompactString("utf-8")
_NODES = CompactArray(Int32)
_PARTITION = (
    ("error_code", Int16),
    ("number", Int32),
    ("leader", Int32),
    ("leader_epoch", Int32),
    ("replicas", _NODES),
    ("in_sync_replicas", _NODES),
    ("offline_replicas", _NODES),
    ("tags", TaggedFields),
)
_BROKER = (("id", Int32), ("host", _STRING), ("port", Int32), ("rack", _STRING), ("tags", TaggedFields))
_TOPIC = (
    ("error_code", Int16),
    ("name", _STRING),
    ("id", _Uuid),
    ("internal", Boolean),
    ("partitions", CompactArray(*_PARTITION)),
    ("operations", Int32),
    ("tags", TaggedFields),
)


class MetadataResponse(Response):  # type: ignore[misc]
    """https://kafka.apache.org/protocol#The_Messages_Metadata."""

    API_KEY = _METADATA
    API_VERSION = _VERSION
    SCHEMA = Schema(
        ("throttle_ms", Int32),
        ("brokers", CompactArray(*_BROKER)),
        ("cluster_id", _STRING),
        ("controller", Int32),
        ("topics", CompactArray(*_TOPIC)),
        ("operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequest(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = _METADATA
    API_VERSION = _VERSION
    RESPONSE_TYPE = MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("id", _Uuid), ("name", _STRING), ("tags", TaggedFields))),
        ("create_topics", Boolean),
        ("cluster_operations", Boolean),
        ("topic_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicIdsRequest(Request[_MetadataRequest]):  # type: ignore[misc]
    """Requests the metadata of some topics, and creates none."""

    API_KEY = _METADATA

    def __init__(self, topics: Collection[str]) -> None:
        self.topics = topics

    def build(self, request_struct_class: type[_MetadataRequest]) -> _MetadataRequest:
        """Build the request in the version that the connection has agreed on."""
        no_tags: dict[int, bytes] = {}
        topics = [(_NO_ID, topic, no_tags) for topic in self.topics]
        return request_struct_class(topics, False, False, False, no_tags)


async def request_topic_ids(coordinator: Any, topics: Collection[str]) -> dict[str, bytes | None]:
    """Ask the group's coordinator for topic IDs: it learns of a deletion before it deletes the offsets.

    Args:
        coordinator: aiokafka's, of a consumer in a group.

    Returns:
        The ID of each topic; None for one that does not exist.

    Raises:
        NotImplementedError: the broker has no IDs; it is older than Kafka 2.8.
        KafkaError: it does not answer, or answers with an error.
    """
    await coordinator.ensure_coordinator_known()
    response = await coordinator._client.send(
        coordinator.coordinator_id, TopicIdsRequest(topics), group=ConnectionGroup.COORDINATION
    )
    ids: dict[str, bytes | None] = dict.fromkeys(topics)
    for code, topic, topic_id, *_ in response.topics:
        if code == UnknownTopicOrPartitionError.errno:
            continue
        if topic_id == _NO_ID:  # this broker does not know it, or this user may not see the topic
            error = for_code(code)
            if error is NoError:
                raise NotImplementedError
            raise error(topic)
        ids[topic] = topic_id
    return ids


class TopicIds:
    """The IDs that topics had when the group's offsets were read: by them a recreated topic is recognized."""

    def __init__(self) -> None:
        self._known: dict[str, bytes | None] = {}

    def clear(self) -> None:
        """Forget all IDs."""
        self._known = {}

    async def learn(self, coordinator: Any, topics: Collection[str]) -> None:
        """Ask for the IDs that are not known yet."""
        unknown = set(topics) - self._known.keys()
        if unknown:
            self._known |= await self._request(coordinator, unknown)

    async def recreated(self, coordinator: Any, partitions: Collection[PartitionKey]) -> set[PartitionKey]:
        """Those of some partitions whose topic has another ID than before, or none that is known.

        Where IDs are not available a topic counts as recreated: reading events again loses none.
        """
        now = await self._request(coordinator, {topic for topic, _ in partitions})
        before = self._known
        return {tp for tp in partitions if before.get(tp[0]) is None or now[tp[0]] != before[tp[0]]}

    async def _request(self, coordinator: Any, topics: Collection[str]) -> dict[str, bytes | None]:
        try:
            return await request_topic_ids(coordinator, topics)
        except NotImplementedError:  # a broker older than Kafka 2.8
            return dict.fromkeys(topics)
