"""What aiokafka's client leaves out or gets wrong, set right on a consumer's client.

aiokafka 0.14 reads an OffsetFetch answer without topics as one without commits, although it is an error of
the request: a coordinator that moves has no topics to tell of. It moves to the log's start without a word
when an offset is out of range, keeps a fatal answer to JoinGroup for a caller that Faust is not, and never
asks its first addresses again when all brokers that it knows have moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aiokafka.client import ConnectionGroup
from aiokafka.conn import create_conn
from aiokafka.errors import (
    KafkaError,
    NoError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.structs import TopicPartition

# What these requests are in Kafka's protocol.
_FETCH, _OFFSET_FETCH, _JOIN_GROUP = 1, 9, 11
# Answers to JoinGroup that are a step of joining: none is wrong, the coordinator moves or loads, the group
# rebalances, the member is new.
_STEPS_OF_JOINING = (0, 14, 15, 16, 22, 25, 27, 79)
# What a connection is given of the client's.
_CONNECTION = (
    "client_id",
    "request_timeout_ms",
    "ssl_context",
    "security_protocol",
    "sasl_mechanism",
    "sasl_plain_username",
    "sasl_plain_password",
    "sasl_kerberos_service_name",
    "sasl_kerberos_domain_name",
    "sasl_oauth_token_provider",
)
_PAUSE_SECONDS = 0.5

OutOfRange = Callable[[TopicPartition, int], Awaitable[None]]


class CheckedClient:
    """Stands between an aiokafka client and those who use it.

    Args:
        client: aiokafka's; its requests go through here from now on.
        fetch_offset: the offset that is fetched next of a partition.
        out_of_range: called with a partition and the offset that its log does not have (any more), before
            aiokafka moves to the log's start. What it raises is for aiokafka, which then fetches again.

    Attributes:
        join_refused: error code of the last answer to JoinGroup if that was fatal, else 0.
    """

    def __init__(
        self, client: Any, fetch_offset: Callable[[TopicPartition], int | None], out_of_range: OutOfRange
    ) -> None:
        self.join_refused = 0
        self._client = client
        self._request = client.send
        self._update = client._metadata_update
        self._fetch_offset = fetch_offset
        self._out_of_range = out_of_range
        client.send = self._send
        client._metadata_update = self._update_metadata

    async def _send(self, node: int, request: Any, **options: Any) -> Any:
        answer = await self._request(node, request, **options)
        if request.API_KEY == _FETCH:
            for topic, partitions in answer.topics:
                for number, code, *_ in partitions:
                    if code == OffsetOutOfRangeError.errno:
                        await self._report(TopicPartition(topic, number))
        elif request.API_KEY == _OFFSET_FETCH:
            _check_offset_fetch(answer)
        elif request.API_KEY == _JOIN_GROUP:
            code = answer.error_code
            self.join_refused = 0 if code in _STEPS_OF_JOINING else code
        return answer

    async def _update_metadata(self, cluster: Any, topics: Any) -> bool:
        """Ask the brokers that are known, and when none answers one at the first addresses."""
        if await self._update(cluster, topics):
            return True
        client = self._client
        for host, port, _ in client.hosts:
            with suppress(KafkaError, OSError, TimeoutError):
                # aiokafka asks a connection of this name, and closes it when it knows brokers.
                client._conns["bootstrap", ConnectionGroup.DEFAULT] = await create_conn(
                    host, port, **{name: getattr(client, f"_{name}") for name in _CONNECTION}
                )
                break
        else:
            # Whoever lacks a broker asks for metadata, and again at once.
            await asyncio.sleep(_PAUSE_SECONDS)
            return False
        updated: bool = await self._update(cluster, topics)
        return updated

    async def _report(self, partition: TopicPartition) -> None:
        offset = self._fetch_offset(partition)
        if offset is not None:
            await self._out_of_range(partition, offset)


def _check_offset_fetch(answer: Any) -> None:
    error = for_code(getattr(answer, "error_code", NoError.errno))  # version 1 has none
    if error is not NoError:
        raise error
    for topic, partitions in answer.topics:
        # aiokafka passes over this one; it raises all other codes.
        if any(code == UnknownTopicOrPartitionError.errno for *_, code in partitions):
            raise UnknownTopicOrPartitionError(topic)
