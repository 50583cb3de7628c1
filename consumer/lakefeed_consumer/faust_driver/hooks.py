"""What the driver calls while it is a member of the consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from lakefeed_common.lake.records import Partition


@dataclass(frozen=True)
class Hooks:
    """Callbacks of the driver, and the future that ends it.

    Attributes:
        drain: waits up to this many seconds for events in flight; returns how many still are.
        drain_seconds: how long a stop or a rebalance waits.
        resume: called after each seek, before records are delivered, with the committed offset of each
            partition, or 0 without one.
        lost: fails when the offsets refer to other events than before, or the membership is lost.
        out_of_range: called in aiokafka's thread when the log does not have the offset to fetch, with the
            partition, that offset, and the start of the log, from which reading resumes.
    """

    drain: Callable[[float], Awaitable[int]]
    drain_seconds: float
    resume: Callable[[Mapping[Partition, int]], None]
    lost: asyncio.Future[None]
    out_of_range: Callable[[Partition, int, int], None]

    def fail(self, error: Exception) -> None:
        """End the membership with an error, from any thread."""

        def set_error() -> None:
            if not self.lost.done():
                self.lost.set_exception(error)

        self.lost.get_loop().call_soon_threadsafe(set_error)
