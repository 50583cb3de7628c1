"""The use case: restore a topic's records, so that the target has each of them once, in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from lakefeed_common.errors import LakefeedError
from lakefeed_producer.publish.pace import Pace
from lakefeed_producer.restore.delivery import Delivery
from lakefeed_producer.restore.reading import Reading
from lakefeed_producer.restore.records import Columns, Encoder

# Partitions that are read at a time, which bounds memory.
_AT_ONCE = 8
_SNAPSHOT_SECONDS = 0.2
_MIN_WAIT_SECONDS = 0.005


@dataclass(frozen=True)
class Progress:
    """A snapshot.

    Attributes:
        records: acknowledged by this run.
        partitions_done, partitions: how many are restored, and how many there are.
        in_flight: records sent and not acknowledged.
        seconds: since the start of sending.
        trouble: the last problem of the connection; empty if there is none.
        interrupted: whether it was stopped before the last record.
    """

    partitions: int
    partitions_done: int = 0
    records: int = 0
    in_flight: int = 0
    seconds: float = 0.0
    trouble: str = ""
    interrupted: bool = False


class RestoreTopic:
    """One run.

    Args:
        reading: what is read.
        encoder: encodes it.
        rate: records per second; None is unlimited.
        stop: ends the run: nothing more is sent, and what is in flight is waited for.
        observe: called with the progress a few times a second.
    """

    def __init__(
        self,
        reading: Reading,
        encoder: Encoder,
        rate: float | None,
        stop: threading.Event,
        observe: Callable[[Progress], None],
    ) -> None:
        self._reading = reading
        self._encoder = encoder
        self._pace = Pace(rate)
        self._stop = stop
        self._observe = observe
        self._start = self._last_snapshot = time.monotonic()
        self._delivery: Delivery | None = None
        self.progress = Progress(len(reading.inventory.partitions))

    def run(self, positions: Mapping[int, int], delivery: Delivery) -> Progress:
        """Restore everything after `positions`.

        Raises:
            LakefeedError: reading or sending failed; what was acknowledged stays, and another run resumes.
        """
        self._delivery = delivery
        try:
            self._send_all(positions, delivery)
            if self._stop.is_set():
                delivery.drain_after_error()
            else:
                delivery.drain()
        except LakefeedError:
            delivery.drain_after_error()
            raise
        finally:
            done = self.progress.partitions_done == self.progress.partitions and not delivery.in_flight
            self._snapshot(interrupted=self._stop.is_set() and not done)
        return self.progress

    def tick(self) -> None:
        """Report the progress if it is time."""
        if time.monotonic() - self._last_snapshot >= _SNAPSHOT_SECONDS:
            self._snapshot()

    def _send_all(self, positions: Mapping[int, int], delivery: Delivery) -> None:
        waiting = deque(self._reading.inventory.partitions)
        active: deque[Iterator[Columns]] = deque()
        while waiting or active:
            while waiting and len(active) < _AT_ONCE:
                number = waiting.popleft()
                active.append(self._reading.partition(number, positions.get(number)))
            columns = next(active[0], None)
            if columns is None:
                active.popleft()
                self.progress = replace(self.progress, partitions_done=self.progress.partitions_done + 1)
                continue
            # A little of each in turn: a partition has one record batch in flight.
            active.rotate(-1)
            for some in self._due(columns):
                for records, part in self._encoder.encode(some):
                    delivery.send(records, part, self._stop)
                    self.tick()
            if self._stop.is_set():
                return

    def _due(self, columns: Columns) -> Iterator[Columns]:
        """The records in parts as they become due; not all of them if the run is stopped."""
        begin = 0
        while begin < len(columns) and not self._stop.is_set():
            if due := self._pace.take(len(columns) - begin):
                yield columns.take(slice(begin, begin + due))
                begin += due
            else:
                self.tick()
                time.sleep(min(max(self._pace.wait_seconds(), _MIN_WAIT_SECONDS), _SNAPSHOT_SECONDS))

    def _snapshot(self, *, interrupted: bool = False) -> None:
        self._last_snapshot = time.monotonic()
        delivery = self._delivery
        if delivery is not None:
            self.progress = replace(
                self.progress,
                records=delivery.records,
                in_flight=delivery.in_flight,
                seconds=self._last_snapshot - self._start,
                trouble=delivery.trouble,
                interrupted=interrupted,
            )
        self._observe(self.progress)
