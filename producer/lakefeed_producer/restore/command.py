"""The command `restore`: wires the parts, checks everything first, and reports."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from threading import Event

from lakefeed_common import logs
from lakefeed_common.console import stop_on_signals
from lakefeed_common.errors import ExitCode, RefusedError, SettingsError
from lakefeed_producer.errors import Stopped
from lakefeed_producer.kafka.topic import max_message_bytes
from lakefeed_producer.publish.display import LineDisplay
from lakefeed_producer.restore.checks import blocking, day_ms, deleting
from lakefeed_producer.restore.delivery import Delivery
from lakefeed_producer.restore.findings import Findings, Risk
from lakefeed_producer.restore.missed import check_missed
from lakefeed_producer.restore.objects import Days, Inventory, Listed, Source
from lakefeed_producer.restore.offset_map import OffsetMap
from lakefeed_producer.restore.reading import Reading
from lakefeed_producer.restore.records import Encoder
from lakefeed_producer.restore.restore_topic import Progress, RestoreTopic
from lakefeed_producer.restore.s3 import S3Store
from lakefeed_producer.restore.tail import Tail, read_tail
from lakefeed_producer.restore.target import Target
from lakefeed_producer.restore.verifying import verify
from lakefeed_producer.settings import ProducerSettings

INTERRUPTED = 130
# Requests at a time: one-event objects take one each.
CONNECTIONS = 16
_LINE_SECONDS = 5.0


@dataclass(frozen=True)
class Request:
    """The arguments of `restore` that are not settings.

    Attributes:
        sources: addresses of the topic's objects, one for each layout.
        days: which days to restore.
        partitions: how many the origin had; None: as many as there are objects of.
        accept: what does not end the restore.
        offset_map: the file; by default named after the target.
        dry_run: check everything, and send nothing.
    """

    sources: Sequence[str]
    days: Days = field(default_factory=Days)
    partitions: int | None = None
    accept: frozenset[Risk] = frozenset()
    offset_map: Path | None = None
    dry_run: bool = False


def parse_days(since: str | None, until: str | None) -> Days:
    """The days of `--since` and `--until`.

    Raises:
        SettingsError: one of them is not a day, or the range is empty.
    """
    days = Days(_day("--since", since), _day("--until", until))
    if days.since and days.until and days.since > days.until:
        raise SettingsError(f"--since {since} is after --until {until}")
    return days


def _day(option: str, text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text is not None else None
    except ValueError:
        raise SettingsError(f"{option} {text}: not a day, such as 2026-01-31") from None


def parse_risks(given: list[str]) -> frozenset[Risk]:
    """The values of `--accept`.

    Raises:
        SettingsError: one of them is unknown.
    """
    try:
        return frozenset(Risk(one) for one in given)
    except ValueError as error:
        raise SettingsError(f"--accept: {error}. Choose from {', '.join(Risk)}") from None


def restore_topic(request: Request, settings: ProducerSettings) -> int:
    """Restore a topic, and return the exit code."""
    logs.configure(settings)
    sources = Source.all_of(request.sources)
    stop = stop_on_signals()
    with LineDisplay() as screen, ThreadPoolExecutor(CONNECTIONS, "reading") as pool:
        run = _Run(request, sources, settings, screen.say, stop)
        try:
            return run.restore(pool)
        except Stopped:
            screen.say("interrupted before anything was sent")
            return INTERRUPTED
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@dataclass
class _Run:
    """One run of `restore`."""

    request: Request
    sources: Sequence[Source]
    settings: ProducerSettings
    say: Callable[[str], None]
    stop: Event

    def __post_init__(self) -> None:
        self._findings = Findings(self.request.accept, self.say)
        self._last_line = time.monotonic()

    def restore(self, pool: ThreadPoolExecutor) -> int:
        store = S3Store(self.sources[0].bucket, CONNECTIONS)
        inventory = Inventory.of(
            {source: self._beating(store.list(source.folder)) for source in self.sources}, self.request.days
        )
        partitions = self._partitions(inventory)
        counts = [
            f"{inventory.count(batches=batch):,} {'batches' if batch else 'events'}"
            for batch in sorted(inventory.sources)
        ]
        self.say(
            f"{self._addresses}: {' and '.join(counts)} of {len(inventory.partitions)} partitions, "
            f"{inventory.bytes():,} bytes, from {inventory.oldest_day()} on"
        )
        update = {"topic_partitions": partitions}
        target = Target.connect(self.settings.model_copy(update=update), self._waiting)
        target.check_partitions(partitions)
        self._check_topic(inventory, target)
        reading = Reading(inventory, store, pool, self._findings)
        path = self.request.offset_map or Path(f"{self.settings.topic}.offsets.jsonl")
        dry_run = self.request.dry_run
        with OffsetMap(path, self._addresses, self.settings.topic, dry_run=dry_run) as offset_map:
            if target.topic is None and offset_map.ends:
                raise self._stale_map()
            if dry_run:
                return self._dry_run(reading, target, offset_map)
            if target.topic is None:
                self.say(target.create(self._waiting, {"retention.ms": "-1", "cleanup.policy": "delete"}))
                self.say("it keeps its records forever: set retention.ms when the restore is done")
                target = Target.connect(target.settings, self._waiting)
            return self._send(reading, target, partitions, offset_map, path)

    @property
    def _addresses(self) -> str:
        return " ".join(sorted(map(str, self.sources)))

    @property
    def _origin(self) -> str:
        """The topic that the objects are of."""
        return self.sources[0].topic

    def _partitions(self, inventory: Inventory) -> int:
        at_least = inventory.partitions[-1] + 1
        given = self.request.partitions
        if given is not None and given < at_least:
            raise SettingsError(f"--partitions {given}: there are objects of {at_least} partitions")
        return given or at_least

    def _check_topic(self, inventory: Inventory, target: Target) -> None:
        topic, config = self.settings.topic, target.config
        if target.topic is not None and not config:
            raise RefusedError(
                f"the broker does not allow this user to read the configuration of the topic {topic}, which "
                "may change or delete restored records. Allow it to DESCRIBE_CONFIGS the topic"
            )
        oldest, now = day_ms(inventory.oldest_day()), time.time_ns() // 1_000_000
        for problem in blocking(topic, config, oldest, now):
            raise RefusedError(problem)
        for problem in deleting(topic, config, oldest, now, inventory.largest_bytes()):
            if Risk.RETENTION not in self.request.accept:
                raise RefusedError(f"{problem}, or restore all the same: --accept {Risk.RETENTION}")
            self.say(f"warning: {problem}")

    def _send(
        self, reading: Reading, target: Target, partitions: int, offset_map: OffsetMap, path: Path
    ) -> int:
        with ExitStack() as stack:
            # From here on nothing of an earlier restore arrives any more.
            identity = target.fence(partitions)
            tail = self._resumed(reading, target, offset_map)
            if tail.positions:
                self.say("resuming after what the topic has already")
            sender = target.sender(identity)
            stack.callback(sender.stop)
            encoder = Encoder(self._origin, self.settings.compression, max_message_bytes(target.config))
            use_case = RestoreTopic(reading, encoder, self.settings.rate, self.stop, self._show)
            delivery = Delivery(
                sender,
                dict(enumerate(tail.ends)),
                offset_map,
                self.settings.delivery_timeout_seconds,
                use_case.tick,
            )
            try:
                progress = use_case.run(tail.positions, delivery)
            finally:
                self._report(use_case.progress, path)
        if progress.interrupted:
            self.say("interrupted: no record is in flight. Run the same command again to resume")
            return INTERRUPTED
        return ExitCode.REJECTED if self._findings.incomplete else ExitCode.OK

    def _resumed(self, reading: Reading, target: Target, offset_map: OffsetMap) -> Tail:
        """Where to resume, after what the target has; checks that it has everything before."""
        tail = read_tail(target.log(), self.settings.topic, self._origin, self._beat)
        self._complete(offset_map, target, tail)
        check_missed(reading, tail.positions, offset_map.restored)
        # It is not needed any more.
        offset_map.restored.clear()
        return tail

    def _complete(self, offset_map: OffsetMap, target: Target, tail: Tail) -> None:
        """Add what a killed run has sent and not noted."""
        begin = [max(low, offset_map.ends.get(at, low)) for at, low in enumerate(tail.first)]
        if any(start > end for start, end in zip(begin, tail.ends, strict=True)):
            raise self._stale_map()
        offset_map.complete(target.log().placed(begin, tail.ends, self._beat))

    def _stale_map(self) -> SettingsError:
        return SettingsError(
            f"the offset map has more than the topic {self.settings.topic}: it is of an earlier topic "
            "of this name. Name another file with --offset-map"
        )

    def _dry_run(self, reading: Reading, target: Target, offset_map: OffsetMap) -> int:
        positions: Mapping[int, int] = {}
        if target.topic is not None:
            positions = self._resumed(reading, target, offset_map).positions
        for line in verify(reading, positions, self._beat):
            self.say(line)
        for line in self._findings.lines():
            self.say(line)
        self.say(
            f"dry run: nothing was sent. The topic {self.settings.topic} "
            + ("exists" if target.topic is not None else "would be created")
        )
        return ExitCode.REJECTED if self._findings.incomplete else ExitCode.OK

    def _show(self, progress: Progress) -> None:
        if time.monotonic() - self._last_line >= _LINE_SECONDS:
            self._last_line = time.monotonic()
            self.say(_describe(self._origin, progress))

    def _report(self, progress: Progress, path: Path) -> None:
        self.say(f"{_describe(self._origin, progress)}; offsets: {path}")
        for line in self._findings.lines():
            self.say(line)

    def _beating(self, listed: Iterable[Listed]) -> Iterator[Listed]:
        for one in listed:
            self._beat()
            yield one

    def _beat(self) -> None:
        if self.stop.is_set():
            raise Stopped

    def _waiting(self, reason: str) -> None:
        self._beat()
        if reason and time.monotonic() - self._last_line >= _LINE_SECONDS:
            self._last_line = time.monotonic()
            self.say(f"waiting for Kafka at {self.settings.kafka_bootstrap_servers}: {reason}")


def _describe(topic: str, progress: Progress) -> str:
    rate = progress.records / progress.seconds if progress.seconds else 0
    line = (
        f"{topic}: {progress.records:,} records restored, {progress.partitions_done} of "
        f"{progress.partitions} partitions done, {progress.seconds:.1f} s, {rate:,.0f} records/s"
    )
    return f"{line} (waiting for Kafka: {progress.trouble})" if progress.trouble else line
