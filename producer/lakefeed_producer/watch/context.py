"""What the parts of a watcher share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from lakefeed_common.health import Health
from lakefeed_producer.errors import Stopped
from lakefeed_producer.metrics import ProducerMetrics
from lakefeed_producer.publish.delivery import Control
from lakefeed_producer.publish.publish_file import PublishOptions
from lakefeed_producer.watch.ledger import Ledger

LOOP = "watch"


@dataclass(frozen=True)
class WatchContext:
    """What the parts of a watcher share.

    Attributes:
        options: how files are published.
        rejects_folder: where rejected rows are kept.
        ledger: what has been published.
        metrics: counts the work.
        health: receives heartbeats of the loop, and the state of the dependency `kafka`.
        stop: ends the loop.
        clock: monotonic seconds.
    """

    options: PublishOptions
    rejects_folder: Path
    ledger: Ledger
    metrics: ProducerMetrics
    health: Health
    stop: Event
    clock: Callable[[], float] = time.monotonic

    def beat(self) -> None:
        """Send a heartbeat of the loop.

        Raises:
            Stopped: a stop was requested.
        """
        self.health.beat(LOOP)
        if self.stop.is_set():
            raise Stopped

    @property
    def control(self) -> Control:
        """Controls the publishing of a file."""
        return Control(self.stop, self.beat, self.clock)
