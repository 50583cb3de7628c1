"""Sends record batches to Kafka idempotently in a thread: each once, in order, without gaps."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lakefeed_common.errors import LakefeedError
from lakefeed_producer.kafka.cluster import (
    FENCED,
    Address,
    Cluster,
    Identity,
    may_not_write,
    taken_over,
    transient_errors,
)
from lakefeed_producer.kafka.record_batches import BatchPart, RecordBatch

log = logging.getLogger(__name__)
# aiokafka logs what is reported here as `trouble`.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

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


class Report(NamedTuple):
    """What became of a record batch.

    Attributes:
        records: the record batch.
        refused: its records that were refused.
        end: the offset after its last record that arrived; None if that is not known.
    """

    records: RecordBatch
    refused: list[Refusal]
    end: int | None


class Sender:
    """Sends to one topic. Each partition has one record batch in flight, so that it never has a gap.

    Args:
        servers: bootstrap servers, host and port.
        access: returns security settings as aiokafka names them; called in the thread.
        topic: the topic.
        identity: of a producer that no other may write with (see `fence`): it leaves no gap for a record that
            is too large either, and ends when another one has taken over. None: the broker assigns one.
    """

    def __init__(
        self,
        servers: list[Address],
        access: Callable[[], Mapping[str, Any]],
        topic: str,
        identity: Identity | None = None,
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._worker = _Worker(Cluster(servers, access, topic, identity), exclusive=identity is not None)
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()

    @property
    def reports(self) -> queue.Queue[Report]:
        """One report for each record batch when it is done."""
        return self._worker.reports

    @property
    def trouble(self) -> str:
        """The last problem of the connection; empty if there is none."""
        return self._worker.trouble

    @property
    def broken(self) -> LakefeedError | None:
        """Why nothing can be sent any more."""
        return self._worker.broken

    def put(self, records: RecordBatch) -> None:
        """Queue a record batch; a report will follow."""
        self._loop.call_soon_threadsafe(self._worker.accept, records)

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
            self._worker.fail(error)
        finally:
            self._loop.close()


@dataclass
class _Partition:
    """A partition, and what is sent to it.

    Attributes:
        number: of the partition.
        waiting: record batches with their compressed records, in order.
        sequence: sequence number of the next record.
        end: the offset after the last record that arrived; None if it is not known.
        lost: why a record batch did not arrive; empty if all have.
    """

    number: int
    waiting: asyncio.Queue[tuple[RecordBatch, bytes]] = field(default_factory=asyncio.Queue)
    sequence: int = 0
    end: int | None = None
    lost: str = ""

    def lose(self, records: RecordBatch, reason: str, *, retryable: bool) -> list[Refusal]:
        """Refuse a record batch: those after it would leave a gap, and are refused too."""
        self.lost = self.lost or reason
        return [Refusal(records.part, reason, too_large=False, retryable=retryable)]


class _Worker:
    """The work in the thread; see `Sender` for its attributes."""

    def __init__(self, cluster: Cluster, *, exclusive: bool) -> None:
        # Not a SimpleQueue: in CPython 3.11 it blocks forever if a signal arrives as its timeout expires.
        self.reports: queue.Queue[Report] = queue.Queue()
        self.trouble = ""
        self.broken: LakefeedError | None = None
        self.stopped = asyncio.Event()
        self._cluster = cluster
        self._exclusive = exclusive
        self._partitions: dict[int, _Partition] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Work until stopped."""
        self._begin(self._cluster.prepare())
        await self.stopped.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._cluster.close()

    def accept(self, records: RecordBatch) -> None:
        """Append a record batch to the queue of its partition."""
        number = records.part.partition
        if number not in self._partitions:
            self._partitions[number] = _Partition(number)
            self._begin(self._send(self._partitions[number]))
        # Compressed while the previous one is in flight.
        self._partitions[number].waiting.put_nowait((records, records.compressed()))

    def fail(self, error: Exception) -> None:
        """Report an unexpected error to the caller, who would wait for reports otherwise."""
        log.error("The sender has failed", exc_info=error)
        self.broken = LakefeedError(f"the sender has failed: {error!r}")

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, partition: _Partition) -> None:
        while True:
            records, compressed = await partition.waiting.get()
            try:
                refused = await self._deliver(partition, records, compressed)
            except LakefeedError as error:
                self.broken = error
                refused = partition.lose(records, str(error), retryable=False)
            except Exception as error:
                self.fail(error)
                refused = partition.lose(records, repr(error), retryable=False)
            self.reports.put(Report(records, refused, partition.end))

    async def _deliver(self, partition: _Partition, records: RecordBatch, compressed: bytes) -> list[Refusal]:
        """Send until there is a final response: the events that it refuses."""
        from aiokafka import errors

        pause = _MIN_PAUSE_SECONDS
        missing_seconds = 0.0
        while True:
            if partition.lost:
                return partition.lose(records, partition.lost, retryable=True)
            try:
                code, offset = await self._cluster.produce(records, compressed, partition.sequence)
            except transient_errors() as error:
                self._note(error)
            else:
                result = errors.for_code(code)
                if result in (errors.NoError, errors.DuplicateSequenceNumber):
                    self.trouble = ""
                    partition.sequence = next_sequence(partition.sequence, records)
                    partition.end = offset + len(records.part) if offset >= 0 else None
                    return []
                if result in (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError):
                    return await self._deliver_halves(partition, records, result)
                self._check_rights(code)
                self._note(result())
                if not result.retriable and code != _CORRUPT_MESSAGE:
                    is_retryable = code in _STATE_LOST
                    return partition.lose(records, self.trouble, retryable=is_retryable)
            await asyncio.sleep(pause)
            missing_seconds = missing_seconds + pause if await self._is_missing(partition) else 0.0
            if missing_seconds >= _DELETED_SECONDS:
                return partition.lose(records, "the topic was deleted", retryable=True)
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)

    def _check_rights(self, code: int) -> None:
        """Raise the error for a user or a producer that may not write to the topic any more."""
        from aiokafka import errors

        result = errors.for_code(code)
        if result in (errors.TopicAuthorizationFailedError, errors.ClusterAuthorizationFailedError):
            raise may_not_write(result)
        if self._exclusive and code in FENCED:
            raise taken_over()

    async def _deliver_halves(self, partition: _Partition, records: RecordBatch, error: Any) -> list[Refusal]:
        """Halve a record batch that is too large; a single record is refused."""
        if len(records.part) == 1:
            if self._exclusive:
                partition.lose(records, error.description, retryable=False)
            return [Refusal(records.part, error.description, too_large=True, retryable=False)]
        refused = []
        for half in records.halves():
            refused += await self._deliver(partition, half, half.compressed())
        return refused

    async def _is_missing(self, partition: _Partition) -> bool:
        """Whether the brokers respond and do not know the partition."""
        try:
            return not await self._cluster.has(partition.number)
        except transient_errors() as error:
            self._note(error)
            return False

    def _note(self, error: BaseException) -> None:
        self.trouble = getattr(error, "description", None) or str(error) or repr(error)


def next_sequence(sequence: int, records: RecordBatch) -> int:
    """The sequence number after a record batch."""
    return (sequence + len(records.part)) % _SEQUENCES
