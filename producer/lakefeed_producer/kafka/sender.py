"""Sends record batches to Kafka idempotently in a thread: each once, in order, without gaps."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakefeed_common import addresses
from lakefeed_common.errors import LakefeedError, RefusedError
from lakefeed_producer.kafka.record_batches import BatchPart, RecordBatch

if TYPE_CHECKING:
    from aiokafka.conn import AIOKafkaConnection

log = logging.getLogger(__name__)
# aiokafka logs what is reported here as `trouble`.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

_ALL_REPLICAS = -1
# Timeouts of a request and of a connection attempt.
_REQUEST_SECONDS = 30.0
_CONNECT_SECONDS = 10.0
_MIN_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.05, 1.0
# A broker that has just started does not know all topics yet.
_DELETED_SECONDS = 10.0
_STOP_SECONDS = 5.0
# CORRUPT_MESSAGE, which aiokafka does not count as retriable.
_CORRUPT_MESSAGE = 2
# OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, UNKNOWN_PRODUCER_ID: the broker has lost the state of
# this producer. Another run reads back what has arrived, and resumes there.
_STATE_LOST = (45, 47, 59)
# Sequence numbers wrap around to zero after this many.
_SEQUENCES = 2**31


@dataclass(frozen=True)
class Refusal:
    """Events that the broker did not accept.

    Attributes:
        part: the events.
        reason: why, for a message.
        too_large: whether the broker refused their size.
        retryable: whether another run may succeed.
    """

    part: BatchPart
    reason: str
    too_large: bool
    retryable: bool


class _NoLeaderError(Exception):
    """A partition has no leader, or does not exist."""


class Sender:
    """Sends to one topic. Each partition has one record batch in flight, so that it never has a gap.

    Args:
        servers: bootstrap servers, host and port.
        access: returns security settings as aiokafka names them; called in the thread.
        topic: the topic.

    Attributes:
        reports: one for each record batch when it is done: the events that were refused.
        trouble: the last problem of the connection; empty if there is none.
        broken: why nothing can be sent any more.
    """

    def __init__(
        self,
        servers: list[tuple[str, int]],
        access: Callable[[], Mapping[str, Any]],
        topic: str,
    ) -> None:
        # Not a SimpleQueue: in CPython 3.11 it blocks forever if a signal arrives as its timeout expires.
        self.reports: queue.Queue[tuple[RecordBatch, list[Refusal]]] = queue.Queue()
        self.trouble = ""
        self.broken: LakefeedError | None = None
        self._loop = asyncio.new_event_loop()
        self._worker = _Worker(self, servers, access, topic)
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()

    def put(self, records: RecordBatch) -> None:
        """Queue a record batch; a report will follow."""
        self._loop.call_soon_threadsafe(self._worker.accept, records)

    def fail(self, error: Exception) -> None:
        """Report an unexpected error of the thread to the caller, who would wait for reports otherwise."""
        log.error("The sender has failed", exc_info=error)
        self.broken = LakefeedError(f"the sender has failed: {error!r}")

    def stop(self) -> None:
        """Stop: nothing is sent any more, and record batches in flight get no report."""
        self._loop.call_soon_threadsafe(self._worker.stopped.set)
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        try:
            from lakefeed_common import kafka_client

            kafka_client.quiet_lost_connections(self._loop)
            self._loop.run_until_complete(self._worker.run())
        except Exception as error:
            self.fail(error)
        finally:
            self._loop.close()


class _Worker:
    """The work in the thread."""

    def __init__(
        self,
        sender: Sender,
        servers: list[tuple[str, int]],
        access: Callable[[], Mapping[str, Any]],
        topic: str,
    ) -> None:
        self.stopped = asyncio.Event()
        self._sender = sender
        self._servers = servers
        self._access = access
        self._topic = topic
        self._brokers: dict[int, tuple[str, int]] = {}
        self._leaders: dict[int, int] = {}
        self._connections: dict[tuple[str, int], AIOKafkaConnection] = {}
        self._connecting: defaultdict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._identifying = asyncio.Lock()
        self._producer: tuple[int, int] | None = None
        self._queues: dict[int, asyncio.Queue[tuple[RecordBatch, bytes]]] = {}
        self._sequences: dict[int, int] = {}
        self._lost: dict[int, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Work until stopped."""
        # Before the first record batch, which would wait for it.
        self._begin(self._prepare())
        await self.stopped.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self._connections.values():
            if (closed := connection.close()) is not None:
                await closed

    def accept(self, records: RecordBatch) -> None:
        """Append a record batch to the queue of its partition."""
        partition = records.part.partition
        if partition not in self._queues:
            self._queues[partition] = asyncio.Queue()
            self._begin(self._send_partition(partition, self._queues[partition]))
        # Compressed while the previous one is in flight.
        self._queues[partition].put_nowait((records, records.compressed()))

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _prepare(self) -> None:
        with suppress(Exception):  # the first record batch tries again
            await self._refresh()
            await self._identity()

    async def _send_partition(
        self, partition: int, waiting: asyncio.Queue[tuple[RecordBatch, bytes]]
    ) -> None:
        while True:
            records, compressed = await waiting.get()
            try:
                refused = await self._deliver(partition, records, compressed)
            except LakefeedError as error:
                self._sender.broken = error
                refused = self._lose(partition, records, str(error), retryable=False)
            except Exception as error:
                self._sender.fail(error)
                refused = self._lose(partition, records, repr(error), retryable=False)
            self._sender.reports.put((records, refused))

    async def _deliver(self, partition: int, records: RecordBatch, compressed: bytes) -> list[Refusal]:
        """Send until there is a final response: the events that it refuses."""
        from aiokafka import errors

        pause = _MIN_PAUSE_SECONDS
        missing_seconds = 0.0
        while True:
            if partition in self._lost:
                # Record batches after one that did not arrive would leave a gap.
                return self._lose(partition, records, self._lost[partition], retryable=True)
            try:
                code = await self._produce(partition, records, compressed)
            except _transient_errors() as error:
                self._note(error)
            else:
                result = errors.for_code(code)
                if result in (errors.NoError, errors.DuplicateSequenceNumber):
                    self._sender.trouble = ""
                    self._sequences[partition] = self._next(partition, records)
                    return []
                if result in (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError):
                    return await self._deliver_halves(partition, records, result)
                if result in (errors.TopicAuthorizationFailedError, errors.ClusterAuthorizationFailedError):
                    raise _may_not_write(result)
                self._note(result())
                if not result.retriable and code != _CORRUPT_MESSAGE:
                    is_retryable = code in _STATE_LOST
                    return self._lose(partition, records, self._sender.trouble, retryable=is_retryable)
            await asyncio.sleep(pause)
            missing_seconds = missing_seconds + pause if await self._is_missing(partition) else 0.0
            if missing_seconds >= _DELETED_SECONDS:
                return self._lose(partition, records, "the topic was deleted", retryable=True)
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)

    async def _deliver_halves(self, partition: int, records: RecordBatch, error: Any) -> list[Refusal]:
        """Halve a record batch that is too large; a single record is refused."""
        if len(records.part) == 1:
            return [Refusal(records.part, error.description, too_large=True, retryable=False)]
        refused = []
        for half in records.halves():
            refused += await self._deliver(partition, half, half.compressed())
        return refused

    def _lose(self, partition: int, records: RecordBatch, reason: str, *, retryable: bool) -> list[Refusal]:
        self._lost.setdefault(partition, reason)
        return [Refusal(records.part, reason, too_large=False, retryable=retryable)]

    def _next(self, partition: int, records: RecordBatch) -> int:
        return (self._sequences.get(partition, 0) + len(records.part)) % _SEQUENCES

    async def _is_missing(self, partition: int) -> bool:
        """Whether the brokers respond and do not know the partition."""
        try:
            await self._refresh()
        except _transient_errors() as error:
            self._note(error)
            return False
        return partition not in self._leaders

    def _note(self, error: BaseException) -> None:
        self._sender.trouble = getattr(error, "description", None) or str(error) or repr(error)

    async def _produce(self, partition: int, records: RecordBatch, compressed: bytes) -> int:
        """Send a record batch once: the error code of the response."""
        from aiokafka.protocol.produce import ProduceRequest

        producer_id, epoch = await self._identity()
        if partition not in self._leaders:
            await self._refresh()
        broker = self._brokers.get(self._leaders.get(partition, -1))
        if broker is None:
            raise _NoLeaderError(f"partition {partition} of the topic {self._topic} has no leader")
        data = records.bytes(compressed, producer_id, epoch, self._sequences.get(partition, 0))
        topics = [(self._topic, [(partition, data)])]
        request = ProduceRequest(None, _ALL_REPLICAS, int(_REQUEST_SECONDS * 1000), topics)
        response = await self._request(broker, request)
        [(_, [(_, code, *_)])] = response.topics
        return int(code)

    async def _identity(self) -> tuple[int, int]:
        """The producer's id and epoch, which the broker assigns once."""
        from aiokafka import errors
        from aiokafka.protocol.transaction import InitProducerIdRequest

        async with self._identifying:
            if self._producer is None:
                response = await self._request_any(InitProducerIdRequest(None, int(_REQUEST_SECONDS * 1000)))
                error = errors.for_code(response.error_code)
                if error is errors.ClusterAuthorizationFailedError:
                    raise _may_not_write(error)
                if error is not errors.NoError:
                    raise error
                self._producer = response.producer_id, response.producer_epoch
            return self._producer

    async def _refresh(self) -> None:
        """Fetch the leaders of the partitions."""
        from aiokafka.protocol.metadata import MetadataRequest

        # The request must not create the topic.
        response = await self._request_any(MetadataRequest([self._topic], allow_auto_topic_creation=False))
        self._brokers = {node: (host, port) for node, host, port, *_ in response.brokers}
        self._leaders = {
            partition: leader
            for _, topic, _, partitions in response.topics
            for _, partition, leader, *_ in partitions
            if topic == self._topic
        }

    async def _request_any(self, request: Any) -> Any:
        """The response of the first broker that gives one."""
        brokers = list(self._brokers.values())
        random.shuffle(brokers)
        failure: Exception = _NoLeaderError("no broker is known")
        for broker in dict.fromkeys([*brokers, *self._servers]):
            try:
                return await self._request(broker, request)
            except _transient_errors() as error:
                failure = error
        raise failure

    async def _request(self, broker: tuple[str, int], request: Any) -> Any:
        connection = await self._connection(broker)
        try:
            return await connection.send(request)
        except TimeoutError:
            connection.close()
            raise TimeoutError(f"{addresses.join(*broker)} does not respond") from None

    async def _connection(self, broker: tuple[str, int]) -> AIOKafkaConnection:
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


def _transient_errors() -> tuple[type[Exception], ...]:
    """Errors that a retry may overcome."""
    from aiokafka.errors import KafkaError

    return (KafkaError, OSError, TimeoutError, _NoLeaderError)


def _may_not_write(error: Any) -> RefusedError:
    # A broker refuses idempotence to a user who may not write to any topic.
    return RefusedError(
        f"the broker does not allow this user to write to the topic ({error.description.rstrip('.')}). "
        "Allow it to WRITE and READ the topic"
    )
