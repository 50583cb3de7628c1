"""Fences earlier producers of the same transactional id, so that what a topic holds of them is final.

A request of a killed producer may still be on its way. `InitProducerId` alone lets the coordinator forget it,
but a partition accepts it until it has seen the new epoch. An empty transaction shows it to all partitions:
its markers carry the new epoch, and whatever comes with an older one is refused from then on. Records are not
part of a transaction: what has been acknowledged stays, for every consumer.
See https://cwiki.apache.org/confluence/display/KAFKA/KIP-98 for requests, markers and epochs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from lakefeed_common.errors import RefusedError, UnavailableError
from lakefeed_producer.kafka.cluster import (
    FENCED,
    Address,
    Cluster,
    Identity,
    may_not_write,
    taken_over,
    transient_errors,
)

_TRANSACTION_MS = 30_000
_TRANSACTION_KEY = 1
_PAUSE_SECONDS = 0.1
# UNKNOWN_TOPIC_OR_PARTITION of a new topic, COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE,
# NOT_COORDINATOR, CONCURRENT_TRANSACTIONS while markers are being written.
_TRANSIENT = (3, 14, 15, 16, 51)
_NOT_AVAILABLE = 15
_MAY_NOT_WRITE = (29, 31)
_MAY_NOT_USE_ID = 53


class _RetriableError(Exception):
    """The coordinator, or the topic, is not ready."""


class Fence:
    """Takes over a topic's partitions for one transactional id.

    Args:
        cluster: the brokers.
        transactional_id: what producers that exclude one another have in common.
        timeout_seconds: how long to wait until the coordinator is ready.
    """

    def __init__(self, cluster: Cluster, transactional_id: str, timeout_seconds: float) -> None:
        self._cluster = cluster
        self._id = transactional_id
        self._timeout_seconds = timeout_seconds
        self._coordinator: Address | None = None

    async def raise_for(self, topic: str, partitions: Sequence[int]) -> Identity:
        """Fence, and return the identity with which to send; earlier producers can write nothing any more.

        Raises:
            BusyError: another producer did the same meanwhile.
            RefusedError: this user may not write to the topic, or not use the transactional id.
            UnavailableError: the cluster has no transaction coordinator within the timeout.
        """
        from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, EndTxnRequest

        end = time.monotonic() + self._timeout_seconds
        first = await self._begin(end)

        def add() -> Any:
            return AddPartitionsToTxnRequest(self._id, *first, [(topic, list(partitions))])

        await self._ask(add, end)
        await self._ask(lambda: EndTxnRequest(self._id, *first, True), end)  # noqa: FBT003 - to commit
        # It waits until the markers are in all partitions.
        return await self._begin(end)

    async def _begin(self, end: float) -> Identity:
        from aiokafka.protocol.transaction import InitProducerIdRequest

        response = await self._ask(lambda: InitProducerIdRequest(self._id, _TRANSACTION_MS), end)
        return Identity(response.producer_id, response.producer_epoch)

    async def _ask(self, request: Any, end: float) -> Any:
        """The coordinator's response; retries until `end`."""
        while True:
            try:
                response = await self._cluster.request(await self._find(), request())
                for code in _codes(response):
                    self._check(code)
            except _retriable_errors() as error:
                self._coordinator = None
                if time.monotonic() >= end:
                    raise UnavailableError(
                        f"the cluster's transaction coordinator is not available within "
                        f"{self._timeout_seconds:g} s ({error}). It needs as many brokers as "
                        "transaction.state.log.replication.factor says"
                    ) from error
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return response

    async def _find(self) -> Address:
        from aiokafka.protocol.coordination import FindCoordinatorRequest

        if self._coordinator is None:
            response = await self._cluster.request_any(FindCoordinatorRequest(self._id, _TRANSACTION_KEY))
            self._check(response.error_code)
            self._coordinator = response.host, response.port
        return self._coordinator

    def _check(self, code: int) -> None:
        """Raise the error for a code.

        Raises:
            _RetriableError: a retry may succeed.
        """
        from aiokafka import errors

        if not code:
            return
        error = errors.for_code(code)
        if code in FENCED:
            raise taken_over()
        if code in _MAY_NOT_WRITE:
            raise may_not_write(error)
        if code == _MAY_NOT_USE_ID:
            raise RefusedError(
                f"the broker does not allow this user to use the transactional id {self._id}, by which two "
                "runs exclude each other. Allow it to WRITE and DESCRIBE this transactional id"
            )
        if code in _TRANSIENT:
            raise _RetriableError("no coordinator" if code == _NOT_AVAILABLE else error.__name__)
        raise RefusedError(f"the broker refused the transactional id {self._id}: {error.description}")


def _retriable_errors() -> tuple[type[Exception], ...]:
    return (*transient_errors(), _RetriableError)


def _codes(response: Any) -> list[int]:
    """All error codes of a response."""
    if hasattr(response, "error_code"):
        return [response.error_code]
    return [code for _, partitions in response.errors for _, code in partitions]
