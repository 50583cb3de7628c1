"""A Kafka in memory for the sender: keeps sequences as a broker does, and answers as a script says.

It stands where aiokafka's connections stand, so no byte goes over a network, and the sender's pauses and time
limits pass at once.
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
Loss = Literal["question", "answer", "silence"]


@dataclass(frozen=True)
class Taken:
    """A record batch as it came: to which partition, from whom, its first sequence number, its values."""

    partition: int
    producer: int
    sequence: int
    values: tuple[bytes, ...]


class ScriptedBroker:
    """A cluster of brokers with one topic.

    Attributes:
        script: for a partition, what happens to the next record batches: an error code that is answered
            instead of taking it; `question` or `answer`, which get lost with the connection; `silence`, which
            is no answer until the client's limit. When it is empty, record batches are taken.
        logs: values by partition, as a consumer would read them.
        asked: every record batch that came, taken or not.
        leaders: partition to broker; a partition that is missing does not exist.
        brokers: their addresses.
        refuses: addresses and the error that a connection to them gets; TimeoutError is no answer.
        identities: answers to the question for a producer's id; 0 gives one.
        largest: bytes of the largest record batch.
        sequences: they begin again from zero after so many.
        connected: addresses that were connected to, in order.
        asked_of: address to which each record batch came.
    """

    def __init__(self, topic: str = "events", partitions: int = 2) -> None:
        self.topic = topic
        self.script: defaultdict[int, deque[int | Loss]] = defaultdict(deque)
        self.logs: defaultdict[int, list[bytes]] = defaultdict(list)
        self.asked: list[Taken] = []
        self.leaders: dict[int, int] = dict.fromkeys(range(partitions), 1)
        self.brokers: dict[int, Address] = {1: ("one", 9092)}
        self.refuses: dict[Address, BaseException] = {}
        self.identities: deque[int] = deque()
        self.largest = 1_000_000
        self.sequences = 2**31
        self.connected: list[Address] = []
        self.asked_of: list[Address] = []
        self._in_flight: set[int] = set()
        self._producers = 4_711
        # By partition and producer.
        self._taken: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        self._next: defaultdict[tuple[int, int], int] = defaultdict(int)

    async def connect(self, host: str, port: int, **options: Any) -> Connection:
        """Stands for aiokafka's `create_conn`."""
        address = host, port
        self.connected.append(address)
        if address in self.refuses:
            if isinstance(self.refuses[address], TimeoutError):
                await asyncio.sleep(3_600)
            raise self.refuses[address]
        return Connection(self, address, options["request_timeout_ms"] / 1000)

    # ---- answers --------------------------------------------------------------------------------

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
        asked = _parsed(partition, data)
        ours = partition, asked.producer
        if asked.sequence in self._taken[ours][-5:]:
            return DUPLICATE
        if len(data) > self.largest:
            return TOO_LARGE
        if asked.sequence != self._next[ours]:
            return OUT_OF_ORDER
        self._taken[ours].append(asked.sequence)
        self._next[ours] = (asked.sequence + len(asked.values)) % self.sequences
        self.logs[partition] += asked.values
        return 0

    def _wrong_broker(self, connection: Connection, partition: int) -> int:
        if partition not in self.leaders:
            return UNKNOWN_PARTITION
        leader = self.brokers.get(self.leaders[partition])
        return 0 if leader == connection.address else NOT_LEADER

    async def produce(self, connection: Connection, partition: int, data: bytes) -> Any:
        assert partition not in self._in_flight, "a partition's record batches go one by one"
        self._in_flight.add(partition)
        try:
            return await self._answered(connection, partition, data)
        finally:
            self._in_flight.discard(partition)

    async def _answered(self, connection: Connection, partition: int, data: bytes) -> Any:
        self.asked.append(_parsed(partition, data))
        self.asked_of.append(connection.address)
        await asyncio.sleep(0)
        script = self.script[partition]  # a test may put another in its place
        fate = script.popleft() if script else 0
        if isinstance(fate, int):
            code = fate or self._wrong_broker(connection, partition) or self.take(partition, data)
            return SimpleNamespace(topics=[(self.topic, [(partition, code, 0, -1)])])
        if fate in ("answer", "silence"):
            assert self.take(partition, data) in (0, DUPLICATE)
        if fate == "silence":
            await asyncio.sleep(connection.limit)
            raise TimeoutError
        connection.close()
        raise KafkaConnectionError(f"Connection at {connection.address[0]} closed")


class Connection:
    """What the sender uses of aiokafka's connection."""

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
                raise AssertionError(f"the sender does not ask for {request}")


def _parsed(partition: int, data: bytes) -> Taken:
    (producer,) = struct.unpack_from(">q", data, _PRODUCER_AT)
    (sequence,) = struct.unpack_from(">i", data, _SEQUENCE_AT)
    batch = MemoryRecords(data).next_batch()
    assert batch is not None
    assert batch.validate_crc()
    return Taken(partition, producer, sequence, tuple(record.value for record in batch))


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
        # Without a timer it waits for the other threads.
        found = super().select(None if timeout is None else 0)
        if not found and timeout:
            self._loop.skipped += timeout
        return found


def in_place_of_the_network(patch: pytest.MonkeyPatch, broker: ScriptedBroker) -> SkippingLoop:
    """Let the next sender talk to this broker; returns the loop of its thread."""
    loop = SkippingLoop()
    patch.setattr("aiokafka.conn.create_conn", broker.connect)
    patch.setattr("lakefeed_producer.kafka.sender.asyncio.new_event_loop", lambda: loop)
    return loop


def access() -> Mapping[str, Any]:
    """The security settings of a broker that asks for nothing."""
    return {"security_protocol": "PLAINTEXT"}
