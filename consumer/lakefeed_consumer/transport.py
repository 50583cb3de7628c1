"""Faust's Kafka transport, but a stop or a rebalance waits only so long for events in flight."""

from __future__ import annotations

import logging
import time
from typing import Any

from faust.transport.drivers import aiokafka as driver

log = logging.getLogger("lakefeed_consumer")


class Consumer(driver.Consumer):
    """Faust waits without a limit; with the bucket away that would cost the membership, or the stop."""

    async def wait_empty(self) -> None:
        """Wait until all events that were taken are acknowledged, `drain_seconds` at the most; commit.

        Faust's own method swallows a cancellation, so it cannot be put under a time limit.
        """
        transport: Any = self.transport
        limit: float = transport.drain_seconds
        end = time.monotonic() + limit
        self._clean_unacked_messages()
        # Faust calls this again when it stops for good, and nothing can be stored by then.
        while self._unacked_messages and not self.should_stop and (left := end - time.monotonic()) > 0:
            await self._wait_for_ack(timeout=min(left, 1.0))
            self._clean_unacked_messages()
        if self._unacked_messages and not self.should_stop:
            count = len(self._unacked_messages)
            log.warning("%d events are not stored after %g s and will be read again", count, limit)
        await self.commit_and_end_transactions()


class Transport(driver.Transport):
    """Makes such consumers."""

    Consumer = Consumer
    drain_seconds = 0.0
