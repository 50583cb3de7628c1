"""Retries calls of a store until they succeed, and reports its outages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from lakefeed_common.health import Health
from lakefeed_consumer.backoff import Backoff
from lakefeed_consumer.metrics import ConsumerMetrics
from lakefeed_consumer.object_store import StoreRefusedError, StoreUnavailableError

T = TypeVar("T")
P = ParamSpec("P")

# A store that fails a call this many times in a row is unavailable, not merely busy.
_FAILURES_OF_AN_OUTAGE = 4


class StoreRetry:
    """Calls a store until it succeeds.

    Args:
        backoff: waits between attempts.
        metrics, health: updated with failures; the readiness of `bucket` is set here.
    """

    def __init__(self, backoff: Backoff, metrics: ConsumerMetrics, health: Health) -> None:
        self._backoff = backoff
        self._metrics = metrics
        self._health = health
        # While the store refuses, one call at a time probes whether it works again.
        self._probing = asyncio.Lock()
        # None before the first result.
        self._failing: bool | None = None
        self._recoveries = 0

    async def call(self, action: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of an action, however often it fails before."""
        failures = 0
        while True:
            recoveries = self._recoveries
            try:
                result = await action(*args, **kwargs)
            except StoreUnavailableError as error:
                failures += 1
                self._report_failure(error, outage=failures >= _FAILURES_OF_AN_OUTAGE)
                await self.wait(failures)
            except StoreRefusedError as error:
                if recoveries != self._recoveries:
                    continue  # sent before the store recovered, and answered after another call succeeded
                self._report_failure(error, outage=True)
                return await self._probe(action, *args, **kwargs)
            else:
                # A refusal that is being probed outweighs another call that succeeds.
                if not self._probing.locked():
                    self._report_success()
                return result

    async def wait(self, failures: int) -> None:
        """Wait before the next attempt, after that many failures in a row."""
        await asyncio.sleep(self._backoff.wait(failures))

    async def _probe(self, action: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._probing:
            failures = 0
            while True:
                try:
                    result = await action(*args, **kwargs)
                except (StoreUnavailableError, StoreRefusedError) as error:
                    failures += 1
                    self._report_failure(error, outage=True)
                    await self.wait(failures)
                else:
                    self._report_success()
                    return result

    def _report_failure(self, error: StoreUnavailableError | StoreRefusedError, *, outage: bool) -> None:
        self._metrics.retries.labels(error.cause).inc()
        if not outage:
            return
        if not self._failing:
            # An outage is one error, however many puts it holds up and however often they are retried.
            self._metrics.count_error(error)
        self._failing = True
        self._health.unready("bucket", str(error))

    def _report_success(self) -> None:
        if self._failing is not False:
            self._failing = False
            self._recoveries += 1
            self._health.ready("bucket")
