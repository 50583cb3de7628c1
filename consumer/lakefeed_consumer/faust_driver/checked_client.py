"""Corrects what aiokafka's client misses or gets wrong, on the client of one consumer.

aiokafka 0.14 treats an OffsetFetch response without topics as "no commits", although it is an error of the
request: a coordinator that moves returns no topics. It seeks to the log's start without a log line when an
offset is out of range, keeps a fatal response to JoinGroup for a caller that Faust never is, and never
returns to the bootstrap servers when all brokers that it knows have moved.
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
# Error codes of JoinGroup that are part of joining: no error, the coordinator moves or loads, the group
# rebalances, the member is new.
_NOT_FATAL = (0, 14, 15, 16, 22, 25, 27, 79)
# The client's attributes that a new connection needs; each has an underscore there.
_CONNECTION_OPTIONS = (
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
    """Wraps the requests of an aiokafka client.

    Args:
        client: aiokafka's; its requests go through this object from now on.
        fetch_offset: returns the offset to fetch next of a partition.
        out_of_range: called with a partition and the offset that its log does not (or no longer) have, before
            aiokafka seeks to the log's start. aiokafka handles what it raises, and fetches again.

    Attributes:
        join_refused: error code of the last response to JoinGroup if it was fatal, else 0.
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
        response = await self._request(node, request, **options)
        if request.API_KEY == _FETCH:
            for topic, partitions in response.topics:
                for number, code, *_ in partitions:
                    if code == OffsetOutOfRangeError.errno:
                        await self._report(TopicPartition(topic, number))
        elif request.API_KEY == _OFFSET_FETCH:
            _check_offset_fetch(response)
        elif request.API_KEY == _JOIN_GROUP:
            code = response.error_code
            self.join_refused = 0 if code in _NOT_FATAL else code
        return response

    async def _update_metadata(self, cluster: Any, topics: Any) -> bool:
        """Ask the known brokers for metadata, and if none answers a bootstrap server."""
        if await self._update(cluster, topics):
            return True
        client = self._client
        for host, port, _ in client.hosts:
            with suppress(KafkaError, OSError, TimeoutError):
                # aiokafka uses a connection of this name, and closes it when it knows brokers.
                client._conns["bootstrap", ConnectionGroup.DEFAULT] = await create_conn(
                    host, port, **{name: getattr(client, f"_{name}") for name in _CONNECTION_OPTIONS}
                )
                break
        else:
            # A caller that lacks a broker asks for metadata again at once.
            await asyncio.sleep(_PAUSE_SECONDS)
            return False
        updated: bool = await self._update(cluster, topics)
        return updated

    async def _report(self, partition: TopicPartition) -> None:
        offset = self._fetch_offset(partition)
        if offset is not None:
            await self._out_of_range(partition, offset)


def _check_offset_fetch(response: Any) -> None:
    error = for_code(getattr(response, "error_code", NoError.errno))  # version 1 has none
    if error is not NoError:
        raise error
    for topic, partitions in response.topics:
        # aiokafka ignores this one; it raises all other codes.
        if any(code == UnknownTopicOrPartitionError.errno for *_, code in partitions):
            raise UnknownTopicOrPartitionError(topic)
