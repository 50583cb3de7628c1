"""A Kafka cluster in memory for the sender: it tracks sequence numbers, and responds as a script demands.

It replaces aiokafka's connections, so there is no network, and the sender's pauses and timeouts pass at once.
"""

from __future__ import annotations

import asyncio
import selectors
import struct
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.memory_records import MemoryRecords

UNKNOWN_PARTITION, NOT_LEADER, TOO_LARGE, OUT_OF_ORDER, DUPLICATE = 3, 6, 10, 45, 46
# Bytes before the producer's id: https://kafka.apache.org/documentation/#recordbatch
_PRODUCER_AT, _SEQUENCE_AT = 43, 53
_REQUEST_SECONDS = 45.0

Address = tuple[str, int]
Loss = Literal["request", "response", "silence"]


@dataclass(frozen=True)
class Received:
    """A record batch as the broker received it: partition, producer id, first sequence number, values."""

    partition: int
    producer: int
    sequence: int
    values: tuple[bytes, ...]


class ScriptedBroker:
    """A cluster of brokers with one topic.

    Attributes:
        script: for each partition, the fate of the next record batches: an error code to respond with;
            `request` or `response`, which is lost with the connection; `silence`, no response until
            the client's timeout. When it is empty, record batches are accepted.
        logs: values by partition, as a consumer would read them.
        received: every record batch, accepted or not.
        leaders: partition to broker; a missing partition does not exist.
        brokers: their addresses.
        refuses: addresses, and the error of a connection to each; TimeoutError is no response.
        identities: error codes for requests of a producer id; 0 assigns one.
        largest: bytes of the largest record batch.
        sequences: sequence numbers wrap around to zero after this many.
        connected: addresses that were connected to, in order.
        received_by: address to which each record batch was sent.
    """

    def __init__(self, topic: str = "events", partitions: int = 2) -> None:
        self.topic = topic
        self.script: defaultdict[int, deque[int | Loss]] = defaultdict(deque)
        self.logs: defaultdict[int, list[bytes]] = defaultdict(list)
        self.received: list[Received] = []
        self.leaders: dict[int, int] = dict.fromkeys(range(partitions), 1)
        self.brokers: dict[int, Address] = {1: ("one", 9092)}
        self.refuses: dict[Address, BaseException] = {}
        self.identities: deque[int] = deque()
        self.largest = 1_000_000
        self.sequences = 2**31
        self.connected: list[Address] = []
        self.received_by: list[Address] = []
        self._in_flight: set[int] = set()
        self._producers = 4_711
        # By partition and producer.
        self._taken: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        self._next: defaultdict[tuple[int, int], int] = defaultdict(int)

    async def connect(self, host: str, port: int, **options: Any) -> Connection:
        """Replaces aiokafka's `create_conn`."""
        address = host, port
        self.connected.append(address)
        if address in self.refuses:
            if isinstance(self.refuses[address], TimeoutError):
                await asyncio.sleep(3_600)
            raise self.refuses[address]
        return Connection(self, address, options["request_timeout_ms"] / 1000)

    def metadata(self) -> Any:
        brokers = [(node, host, port, None) for node, (host, port) in self.brokers.items()]
        partitions = [
            (0, partition, leader, [leader], [leader]) for partition, leader in self.leaders.items()
        ]
        return SimpleNamespace(brokers=brokers, topics=[(0, self.topic, False, partitions)])

    def identity(self) -> Any:
        code = self.identities.popleft() if self.identities else 0
        self._producers += 1
        return SimpleNamespace(error_code=code, producer_id=self._producers, producer_epoch=0)

    def take(self, partition: int, data: bytes) -> int:
        """Append a record batch as a broker does; returns the error code."""
        batch = _parsed(partition, data)
        ours = partition, batch.producer
        if batch.sequence in self._taken[ours][-5:]:
            return DUPLICATE
        if len(data) > self.largest:
            return TOO_LARGE
        if batch.sequence != self._next[ours]:
            return OUT_OF_ORDER
        self._taken[ours].append(batch.sequence)
        self._next[ours] = (batch.sequence + len(batch.values)) % self.sequences
        self.logs[partition] += batch.values
        return 0

    def _wrong_broker(self, connection: Connection, partition: int) -> int:
        if partition not in self.leaders:
            return UNKNOWN_PARTITION
        leader = self.brokers.get(self.leaders[partition])
        return 0 if leader == connection.address else NOT_LEADER

    async def produce(self, connection: Connection, partition: int, data: bytes) -> Any:
        assert partition not in self._in_flight, "a partition has one record batch in flight"
        self._in_flight.add(partition)
        try:
            return await self._respond(connection, partition, data)
        finally:
            self._in_flight.discard(partition)

    async def _respond(self, connection: Connection, partition: int, data: bytes) -> Any:
        self.received.append(_parsed(partition, data))
        self.received_by.append(connection.address)
        await asyncio.sleep(0)
        script = self.script[partition]  # a test may put another in its place
        fate = script.popleft() if script else 0
        if isinstance(fate, int):
            code = fate or self._wrong_broker(connection, partition) or self.take(partition, data)
            return SimpleNamespace(topics=[(self.topic, [(partition, code, 0, -1)])])
        if fate in ("response", "silence"):
            assert self.take(partition, data) in (0, DUPLICATE)
        if fate == "silence":
            await asyncio.sleep(connection.limit)
            raise TimeoutError
        connection.close()
        raise KafkaConnectionError(f"Connection at {connection.address[0]} closed")


class Connection:
    """The part of aiokafka's connection that the sender uses."""

    def __init__(self, broker: ScriptedBroker, address: Address, limit: float) -> None:
        self.address = address
        self.limit = limit
        self._broker = broker
        self._open = True

    def connected(self) -> bool:
        return self._open

    def close(self) -> None:
        self._open = False

    async def send(self, request: Any) -> Any:
        if not self._open or self.address in self._broker.refuses:
            self.close()
            raise KafkaConnectionError(f"No connection to {self.address[0]}")
        match request:
            case MetadataRequest():
                return self._broker.metadata()
            case InitProducerIdRequest():
                return self._broker.identity()
            case ProduceRequest():
                [(topic, [(partition, data)])] = request._topics
                assert topic == self._broker.topic
                assert request.required_acks == -1, "all replicas"
                return await self._broker.produce(self, partition, data)
            case _:
                raise AssertionError(f"unexpected request: {request}")


def _parsed(partition: int, data: bytes) -> Received:
    (producer,) = struct.unpack_from(">q", data, _PRODUCER_AT)
    (sequence,) = struct.unpack_from(">i", data, _SEQUENCE_AT)
    batch = MemoryRecords(data).next_batch()
    assert batch is not None
    assert batch.validate_crc()
    return Received(partition, producer, sequence, tuple(record.value for record in batch))


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when there is nothing else to do."""

    def __init__(self) -> None:
        self.skipped = 0.0
        super().__init__(_SkippingSelector(self))

    def time(self) -> float:
        return self.skipped


class _SkippingSelector(selectors.DefaultSelector):
    def __init__(self, loop: SkippingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # Without a timer it waits for other threads.
        found = super().select(None if timeout is None else 0)
        if not found and timeout:
            self._loop.skipped += timeout
        return found


def replace_network(patch: pytest.MonkeyPatch, broker: ScriptedBroker) -> SkippingLoop:
    """Let the next sender connect to this broker; returns the loop of its thread."""
    loop = SkippingLoop()
    patch.setattr("aiokafka.conn.create_conn", broker.connect)
    patch.setattr("lakefeed_producer.kafka.sender.asyncio.new_event_loop", lambda: loop)
    return loop


def access() -> Mapping[str, Any]:
    """The security settings of a broker without any."""
    return {"security_protocol": "PLAINTEXT"}
