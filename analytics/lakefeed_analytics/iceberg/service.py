"""Runs `compact --every`: compacts each topic again and again, and serves metrics and health."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from lakefeed_analytics.iceberg.chain import Watermark
from lakefeed_analytics.iceberg.compact import Done
from lakefeed_analytics.iceberg.group import committed_offsets
from lakefeed_analytics.iceberg.parts import connect
from lakefeed_analytics.metrics import CompactMetrics
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common.addresses import join
from lakefeed_common.console import stop_on_signals
from lakefeed_common.errors import LakefeedError
from lakefeed_common.health import Health
from lakefeed_common.web import StatusServer

log = logging.getLogger(__name__)

LOOP = "compact-loop"
KAFKA, TABLES = "kafka", "tables"
_TICK = 1.0
_FIRST_RETRY_SECONDS = 2.0
_GRACE_SECONDS = 5

Committed = Callable[[CompactSettings, str], Mapping[int, int]]


def serve(settings: CompactSettings, seconds: float) -> None:
    """Compact until SIGTERM or SIGINT; what a compaction has not committed by then is repeated later."""
    stop = stop_on_signals()
    with running(settings, seconds, stop) as port:
        log.info("Serving metrics and health on http://%s", join(settings.http_host, port))
        stop.wait()
    log.info("stopped")


@contextmanager
def running(
    settings: CompactSettings,
    seconds: float,
    stop: threading.Event,
    committed: Committed = committed_offsets,
) -> Iterator[int]:
    """Run the work loop within the `with` block; yields the port of metrics and health."""
    metrics = CompactMetrics(settings.topic_names)
    health = Health(metrics, (KAFKA, TABLES), stall_seconds=settings.stall_seconds)
    with StatusServer(settings, metrics, health) as server:
        service = Service(settings, metrics, health, committed)
        # A daemon thread: whatever it does, it can be killed at any time.
        loop = threading.Thread(target=service.run, args=(seconds, stop), name="work-loop", daemon=True)
        loop.start()
        try:
            yield server.port
        finally:
            stop.set()
            loop.join(_GRACE_SECONDS)


class Service:
    """Compacts all topics, one after the other; an error ends a topic's round, never the loop.

    Args:
        settings: names and places.
        metrics, health: what it reports to.
        committed: reads the committed offsets of a topic.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        settings: CompactSettings,
        metrics: CompactMetrics,
        health: Health,
        committed: Committed = committed_offsets,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._health = health
        self._committed = committed
        self._clock = clock
        self._first_round = True
        # The tables' watermarks at the end of the last round: committed offsets do not fall below them.
        self._marks: dict[str, Mapping[int, Watermark]] = {}

    def run(self, seconds: float, stop: threading.Event) -> None:
        """Start a round at this interval until stopped, and earlier after one that has failed."""
        retry = _FIRST_RETRY_SECONDS
        while not stop.is_set():
            started = self._clock()
            if self.round():
                due, retry = started + seconds, _FIRST_RETRY_SECONDS
            else:
                due, retry = started + min(retry, seconds), min(2 * retry, seconds)
            while not stop.is_set() and self._clock() < due:
                self._beat()
                stop.wait(min(_TICK, max(0.0, due - self._clock())))
        self._health.retire(LOOP)

    def round(self) -> bool:
        """Compact each topic once; whether nothing has failed."""
        problems: dict[str, list[str]] = {KAFKA: []}
        for topic in self._settings.topic_names:
            self._beat()
            try:
                committed = self._committed(self._settings, topic)
            except LakefeedError as error:
                self._metrics.count_error(error)
                problems[KAFKA].append(str(error))
                continue
            self._reached(KAFKA)
            problems.setdefault(TABLES, [])
            if problem := self._compact(topic, committed):
                problems[TABLES].append(problem)
        for dependency, found in problems.items():
            if found:
                self._health.unready(dependency, "; ".join(found))
            else:
                self._health.ready(dependency)
        self._first_round = False
        return not any(problems.values())

    def _reached(self, dependency: str) -> None:
        """Be ready before the first round ends: with many objects, it can take hours."""
        if self._first_round:
            self._health.ready(dependency)

    def _compact(self, topic: str, committed: Mapping[int, int]) -> str | None:
        """Compact a topic; the problem, if there is one."""
        done, started = Done(), self._clock()
        marks: Mapping[int, Watermark] = {}
        try:
            with connect(self._settings, topic, self._beat, self._beat) as parts:
                if self._first_round:
                    parts.table.load()
                    self._reached(TABLES)
                try:
                    before = self._marks.get(topic, {})
                    parts.compactor.run(committed, lambda _: self._beat(), done, before)
                finally:
                    self._marks[topic] = marks = parts.compactor.watermarks()
        except LakefeedError as error:
            self._metrics.count_error(error)
            return f"{topic}: {error}"
        except Exception as error:
            # Something that no code expects must not end the service.
            log.exception("Compacting %s", topic)
            self._metrics.count_error(error)
            return f"{topic}: {error}"
        else:
            self._metrics.success.labels(topic).set_to_current_time()
            return None
        finally:
            self._report(topic, done, self._clock() - started)
            self._report_lag(topic, committed, marks)

    def _report(self, topic: str, done: Done, seconds: float) -> None:
        metrics = self._metrics
        metrics.seconds.labels(topic).observe(seconds)
        metrics.commits.labels(topic).inc(done.commits)
        metrics.refused.labels(topic).inc(done.refused)
        metrics.rows.labels(topic).inc(done.rows)
        metrics.unfit.labels(topic).inc(done.unfit)
        metrics.files.labels(topic).inc(done.files)
        metrics.bytes.labels(topic).inc(done.bytes)
        if done.rows:
            log.info(
                "Compacted %s", topic, extra={"rows": done.rows, "files": done.files, "commits": done.commits}
            )

    def _report_lag(
        self, topic: str, committed: Mapping[int, int], watermarks: Mapping[int, Watermark]
    ) -> None:
        for number, offset in committed.items():
            mark = watermarks[number].offset if number in watermarks else 0
            self._metrics.watermark.labels(topic, number).set(mark)
            self._metrics.lag.labels(topic, number).set(max(0, offset - mark))

    def _beat(self) -> None:
        self._health.beat(LOOP)
