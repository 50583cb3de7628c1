"""Requests to the brokers of a cluster: who leads a partition, the producer's identity, record batches."""

from __future__ import annotations

import asyncio
import os
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from lakefeed_common import addresses
from lakefeed_common.errors import RefusedError
from lakefeed_producer.errors import BusyError
from lakefeed_producer.kafka.record_batches import RecordBatch

if TYPE_CHECKING:
    from aiokafka.conn import AIOKafkaConnection

_ALL_REPLICAS = -1
# Timeouts of a request and of a connection attempt.
_REQUEST_SECONDS = 30.0
_CONNECT_SECONDS = 10.0

# INVALID_PRODUCER_EPOCH, PRODUCER_FENCED: a producer with the same transactional id has started since.
FENCED = (47, 90)

Address = tuple[str, int]


class Identity(NamedTuple):
    """How the brokers know a producer."""

    producer_id: int
    epoch: int


class NoLeaderError(Exception):
    """A partition has no leader, or does not exist."""


def transient_errors() -> tuple[type[Exception], ...]:
    """Errors that a retry may overcome."""
    from aiokafka.errors import KafkaError

    return (KafkaError, OSError, TimeoutError, NoLeaderError)


def may_not_write(error: Any) -> RefusedError:
    """The error for a user without the right to write to the topic."""
    # A broker refuses idempotence to a user who may not write to any topic.
    return RefusedError(
        f"the broker does not allow this user to write to the topic ({error.description.rstrip('.')}). "
        "Allow it to WRITE and READ the topic"
    )


def taken_over() -> BusyError:
    """The error for a producer that another one with the same transactional id has fenced."""
    return BusyError(
        "another producer of this kind has started and taken over the topic: nothing more is sent from here. "
        "Let only one run"
    )


class Cluster:
    """The brokers that have one topic, for an idempotent producer. Used by one event loop.

    Args:
        servers: bootstrap servers, host and port.
        access: returns security settings as aiokafka names them; may take a while.
        topic: the topic.
        identity: of the producer; None: the broker assigns one.
    """

    def __init__(
        self,
        servers: list[Address],
        access: Callable[[], Mapping[str, Any]],
        topic: str,
        identity: Identity | None = None,
    ) -> None:
        self._servers = servers
        self._access = access
        self._topic = topic
        self._brokers: dict[int, Address] = {}
        self._leaders: dict[int, int] = {}
        self._connections: dict[Address, AIOKafkaConnection] = {}
        self._connecting: defaultdict[Address, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._identifying = asyncio.Lock()
        self._producer = identity

    async def prepare(self) -> None:
        """Connect before the first record batch, which would wait for it."""
        with suppress(Exception):  # the first record batch tries again
            await self._refresh()
            await self._identity()

    async def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            if (closed := connection.close()) is not None:
                await closed

    async def has(self, partition: int) -> bool:
        """Whether the topic has a partition, by the response of a broker."""
        await self._refresh()
        return partition in self._leaders

    async def produce(self, records: RecordBatch, compressed: bytes, sequence: int) -> tuple[int, int]:
        """Send a record batch once.

        Args:
            records: the record batch.
            compressed: its compressed records.
            sequence: sequence number of its first record in the partition.

        Returns:
            The error code of the response, and the offset of the first record.
        """
        from aiokafka.protocol.produce import ProduceRequest

        partition = records.part.partition
        producer_id, epoch = await self._identity()
        if partition not in self._leaders:
            await self._refresh()
        broker = self._brokers.get(self._leaders.get(partition, -1))
        if broker is None:
            raise NoLeaderError(f"partition {partition} of the topic {self._topic} has no leader")
        data = records.bytes(compressed, producer_id, epoch, sequence)
        topics = [(self._topic, [(partition, data)])]
        request = ProduceRequest(None, _ALL_REPLICAS, int(_REQUEST_SECONDS * 1000), topics)
        response = await self.request(broker, request)
        [(_, [(_, code, offset, *_)])] = response.topics
        return int(code), int(offset)

    async def _identity(self) -> Identity:
        """The producer's id and epoch, which the broker assigns once."""
        from aiokafka import errors
        from aiokafka.protocol.transaction import InitProducerIdRequest

        async with self._identifying:
            if self._producer is None:
                response = await self.request_any(InitProducerIdRequest(None, int(_REQUEST_SECONDS * 1000)))
                error = errors.for_code(response.error_code)
                if error is errors.ClusterAuthorizationFailedError:
                    raise may_not_write(error)
                if error is not errors.NoError:
                    raise error
                self._producer = Identity(response.producer_id, response.producer_epoch)
            return self._producer

    async def _refresh(self) -> None:
        """Fetch the leaders of the partitions."""
        from aiokafka.protocol.metadata import MetadataRequest

        # The request must not create the topic.
        response = await self.request_any(MetadataRequest([self._topic], allow_auto_topic_creation=False))
        self._brokers = {node: (host, port) for node, host, port, *_ in response.brokers}
        self._leaders = {
            partition: leader
            for _, topic, _, partitions in response.topics
            for _, partition, leader, *_ in partitions
            if topic == self._topic
        }

    async def request_any(self, request: Any) -> Any:
        """The response of the first broker that gives one."""
        brokers = list(self._brokers.values())
        random.shuffle(brokers)
        failure: Exception = NoLeaderError("no broker is known")
        for broker in dict.fromkeys([*brokers, *self._servers]):
            try:
                return await self.request(broker, request)
            except transient_errors() as error:
                failure = error
        raise failure

    async def request(self, broker: Address, request: Any) -> Any:
        """The response of a broker."""
        connection = await self._connection(broker)
        try:
            return await connection.send(request)
        except TimeoutError:
            connection.close()
            raise TimeoutError(f"{addresses.join(*broker)} does not respond") from None

    async def _connection(self, broker: Address) -> AIOKafkaConnection:
        from aiokafka.conn import create_conn

        async with self._connecting[broker]:
            connection = self._connections.get(broker)
            if connection is not None and connection.connected():
                return connection
            host, port = broker
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    connection = await create_conn(
                        host,
                        port,
                        client_id="lakefeed-producer",
                        request_timeout_ms=int(1.5 * _REQUEST_SECONDS * 1000),
                        **self._access(),
                    )
            except TimeoutError:
                raise TimeoutError(f"Connect to {addresses.join(*broker)} failed: no response") from None
            except OSError as error:
                number = isinstance(error, ConnectionError) and error.errno
                reason = os.strerror(number) if number else str(error)
                raise ConnectionError(f"Connect to {addresses.join(*broker)} failed: {reason}") from None
            self._connections[broker] = connection
            return connection
