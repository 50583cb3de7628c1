"""Sends record batches to Kafka in a thread of its own, idempotently: each once, in order, without holes."""

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
from lakefeed_producer.record_batches import Cut, RecordBatch

if TYPE_CHECKING:
    from aiokafka.conn import AIOKafkaConnection

log = logging.getLogger(__name__)
# aiokafka says to its log what is told here by `trouble`.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

_ALL_REPLICAS = -1
# How long the broker may take for one request, and a connection to come about.
_ANSWER_SECONDS = 30.0
_CONNECT_SECONDS = 10.0
_LEAST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0
# A broker that has just started does not know all topics yet.
_GONE_SECONDS = 10.0
_STOP_SECONDS = 5.0
# An error of Kafka's that aiokafka would not try again.
_CORRUPT_ON_ITS_WAY = 2
# OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, UNKNOWN_PRODUCER_ID: the broker does not know any more
# what this producer has sent. Another one reads back what has arrived, and goes on from there.
_LOST_TRACK = (45, 47, 59)
# Sequences begin again from zero after this.
_SEQUENCES = 2**31


@dataclass(frozen=True)
class Refusal:
    """Events that the broker did not take.

    Attributes:
        cut: which.
        reason: why.
        too_large: whether it is their size.
        retryable: whether another run may have more luck.
    """

    cut: Cut
    reason: str
    too_large: bool
    retryable: bool


class _NoLeaderError(Exception):
    """A partition has no leader now, or is not known."""


class Sender:
    """Sends to one topic. A partition's record batches go one by one: what has arrived of them has no holes.

    Args:
        servers: addresses of brokers to begin with, host and port.
        access: security settings as aiokafka names them; asked for in the thread.
        topic: where the records go.

    Attributes:
        reports: for each record batch, when it has been dealt with, what of it was refused.
        trouble: what the connection last suffered from; empty if nothing.
        broken: why nothing can be sent any more.
    """

    def __init__(
        self,
        servers: list[tuple[str, int]],
        access: Callable[[], Mapping[str, Any]],
        topic: str,
    ) -> None:
        # No SimpleQueue: of CPython 3.11 it waits for ever when a signal comes as its time runs out.
        self.reports: queue.Queue[tuple[RecordBatch, list[Refusal]]] = queue.Queue()
        self.trouble = ""
        self.broken: LakefeedError | None = None
        self._loop = asyncio.new_event_loop()
        self._work = _Work(self, servers, access, topic)
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()

    def put(self, records: RecordBatch) -> None:
        """Take a record batch; a report will follow."""
        self._loop.call_soon_threadsafe(self._work.accept, records)

    def fail(self, error: Exception) -> None:
        """Tell of an error that nobody foresaw: in this thread nobody would hear of it, and wait."""
        log.error("the sender has failed", exc_info=error)
        self.broken = LakefeedError(f"the sender has failed: {error!r}")

    def stop(self) -> None:
        """End; nothing is sent after it, and what was not acknowledged gets no report."""
        self._loop.call_soon_threadsafe(self._work.stopped.set)
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        try:
            from lakefeed_common import kafka_client

            kafka_client.quiet_lost_connections(self._loop)
            self._loop.run_until_complete(self._work.run())
        except Exception as error:
            self.fail(error)
        finally:
            self._loop.close()


class _Work:
    """What goes on in the thread."""

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
        # So that the first record batch need not wait for it.
        self._begin(self._prepare())
        await self.stopped.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self._connections.values():
            if (closed := connection.close()) is not None:
                await closed

    def accept(self, records: RecordBatch) -> None:
        """Put a record batch behind the others of its partition."""
        partition = records.cut.partition
        if partition not in self._queues:
            self._queues[partition] = asyncio.Queue()
            self._begin(self._serve(partition, self._queues[partition]))
        # Compressed while the one before is on its way.
        self._queues[partition].put_nowait((records, records.compressed()))

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _prepare(self) -> None:
        with suppress(Exception):  # it is tried again with the first record batch
            await self._refresh()
            await self._identity()

    async def _serve(self, partition: int, waiting: asyncio.Queue[tuple[RecordBatch, bytes]]) -> None:
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
        """Send until there is a final answer: what is refused then."""
        from aiokafka import errors

        pause = _LEAST_PAUSE_SECONDS
        gone = 0.0
        while True:
            if partition in self._lost:
                # What would follow one that did not arrive would leave a hole.
                return self._lose(partition, records, self._lost[partition], retryable=True)
            try:
                code = await self._produce(partition, records, compressed)
            except _passing_errors() as error:
                self._note(error)
            else:
                answer = errors.for_code(code)
                if answer in (errors.NoError, errors.DuplicateSequenceNumber):
                    self._sender.trouble = ""
                    self._sequences[partition] = self._next(partition, records)
                    return []
                if answer in (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError):
                    return await self._deliver_less(partition, records, answer)
                if answer in (errors.TopicAuthorizationFailedError, errors.ClusterAuthorizationFailedError):
                    raise _may_not_write(answer)
                self._note(answer())
                if not answer.retriable and code != _CORRUPT_ON_ITS_WAY:
                    passing = code in _LOST_TRACK
                    return self._lose(partition, records, self._sender.trouble, retryable=passing)
            await asyncio.sleep(pause)
            gone = gone + pause if await self._is_gone(partition) else 0.0
            if gone >= _GONE_SECONDS:
                return self._lose(partition, records, "the topic was removed", retryable=True)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _deliver_less(self, partition: int, records: RecordBatch, answer: Any) -> list[Refusal]:
        """A record batch that is too large goes in two; one of a single record cannot go."""
        if len(records.cut) == 1:
            return [Refusal(records.cut, answer.description, too_large=True, retryable=False)]
        refused = []
        for half in records.halves():
            refused += await self._deliver(partition, half, half.compressed())
        return refused

    def _lose(self, partition: int, records: RecordBatch, reason: str, *, retryable: bool) -> list[Refusal]:
        self._lost.setdefault(partition, reason)
        return [Refusal(records.cut, reason, too_large=False, retryable=retryable)]

    def _next(self, partition: int, records: RecordBatch) -> int:
        return (self._sequences.get(partition, 0) + len(records.cut)) % _SEQUENCES

    async def _is_gone(self, partition: int) -> bool:
        """Whether the brokers answer and do not know the partition."""
        try:
            await self._refresh()
        except _passing_errors() as error:
            self._note(error)
            return False
        return partition not in self._leaders

    def _note(self, error: BaseException) -> None:
        self._sender.trouble = getattr(error, "description", None) or str(error) or repr(error)

    # ---- requests -----------------------------------------------------------------------------

    async def _produce(self, partition: int, records: RecordBatch, compressed: bytes) -> int:
        """Send a record batch once: the error code of the answer."""
        from aiokafka.protocol.produce import ProduceRequest

        producer_id, epoch = await self._identity()
        if partition not in self._leaders:
            await self._refresh()
        broker = self._brokers.get(self._leaders.get(partition, -1))
        if broker is None:
            raise _NoLeaderError(f"partition {partition} of the topic {self._topic} has no leader")
        data = records.bytes(compressed, producer_id, epoch, self._sequences.get(partition, 0))
        topics = [(self._topic, [(partition, data)])]
        request = ProduceRequest(None, _ALL_REPLICAS, int(_ANSWER_SECONDS * 1000), topics)
        answer = await self._ask(broker, request)
        [(_, [(_, code, *_)])] = answer.topics
        return int(code)

    async def _identity(self) -> tuple[int, int]:
        """The producer's id and epoch, which the broker gives once."""
        from aiokafka import errors
        from aiokafka.protocol.transaction import InitProducerIdRequest

        async with self._identifying:
            if self._producer is None:
                answer = await self._ask_any(InitProducerIdRequest(None, int(_ANSWER_SECONDS * 1000)))
                error = errors.for_code(answer.error_code)
                if error is errors.ClusterAuthorizationFailedError:
                    raise _may_not_write(error)
                if error is not errors.NoError:
                    raise error
                self._producer = answer.producer_id, answer.producer_epoch
            return self._producer

    async def _refresh(self) -> None:
        """Ask who leads the partitions."""
        from aiokafka.protocol.metadata import MetadataRequest

        # To ask for a topic must not make it.
        answer = await self._ask_any(MetadataRequest([self._topic], allow_auto_topic_creation=False))
        self._brokers = {node: (host, port) for node, host, port, *_ in answer.brokers}
        self._leaders = {
            partition: leader
            for _, topic, _, partitions in answer.topics
            for _, partition, leader, *_ in partitions
            if topic == self._topic
        }

    async def _ask_any(self, request: Any) -> Any:
        """The answer of the first broker that gives one."""
        brokers = list(self._brokers.values())
        random.shuffle(brokers)
        told: Exception = _NoLeaderError("no broker is known")
        for broker in dict.fromkeys([*brokers, *self._servers]):
            try:
                return await self._ask(broker, request)
            except _passing_errors() as error:
                told = error
        raise told

    async def _ask(self, broker: tuple[str, int], request: Any) -> Any:
        connection = await self._connection(broker)
        try:
            return await connection.send(request)
        except TimeoutError:
            connection.close()
            raise TimeoutError(f"{addresses.join(*broker)} does not answer") from None

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
                        request_timeout_ms=int(1.5 * _ANSWER_SECONDS * 1000),
                        **self._access(),
                    )
            except TimeoutError:
                raise TimeoutError(f"Connect to {addresses.join(*broker)} failed: no answer") from None
            except OSError as error:
                known = isinstance(error, ConnectionError) and error.errno
                said = os.strerror(known) if known else str(error)
                raise ConnectionError(f"Connect to {addresses.join(*broker)} failed: {said}") from None
            self._connections[broker] = connection
            return connection


def _passing_errors() -> tuple[type[Exception], ...]:
    """What may be over when it is tried again."""
    from aiokafka.errors import KafkaError

    return (KafkaError, OSError, TimeoutError, _NoLeaderError)


def _may_not_write(answer: Any) -> RefusedError:
    # Without a right to write to any topic a broker refuses what makes sending idempotent.
    return RefusedError(
        f"the broker does not allow this user to write to the topic ({answer.description.rstrip('.')}). "
        "Allow it to WRITE and READ the topic"
    )
