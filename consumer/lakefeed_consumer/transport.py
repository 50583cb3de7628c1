"""Faust's Kafka transport, but a stop or a rebalance waits only so long for events in flight."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from faust.transport.drivers import aiokafka as driver

log = logging.getLogger("lakefeed_consumer")


class Consumer(driver.Consumer):
    """Faust waits without a limit; with the bucket away that would cost the membership, or the stop."""

    async def wait_empty(self) -> None:
        """Wait until all events that were taken are acknowledged, `drain_seconds` at the most; commit."""
        transport: Any = self.transport
        limit: float = transport.drain_seconds
        try:
            await asyncio.wait_for(super().wait_empty(), limit)
        except TimeoutError:
            count = len(self.unacked)
            log.warning("%d events are not stored after %g s and will be read again", count, limit)
            await self.commit_and_end_transactions()


class Transport(driver.Transport):
    """Makes such consumers."""

    Consumer = Consumer
    drain_seconds = 0.0
