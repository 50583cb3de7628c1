"""Measures events/s stored as batch objects, compared with one object per event."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from benchmarks import peers
from benchmarks.figures import Figure, Result, Target, ratio
from benchmarks.programs import HEADERS_MORE, NGINX
from benchmarks.stores import Store, instant, seaweed
from benchmarks.suite import Bench, Suite
from benchmarks.topics import EVENT_BYTES, events, fill, topic, wait_for_group
from benchmarks.workers import LAKEFEED, Drained, Workers, consumer_environment, store_first

_ROUNDS = 3
_SHARE = 0.95
_LOOK_SECONDS = 0.02
_OBJECTS = {"LAKEFEED_COMMIT_INTERVAL_SECONDS": "0.1"}
_BATCHES = _OBJECTS | {
    "LAKEFEED_LAYOUT": "batches",
    "LAKEFEED_BATCH_MAX_EVENTS": "10000",
    "LAKEFEED_BATCH_LINGER_SECONDS": "1",
}


@dataclass(frozen=True)
class _Case:
    """A group of processes and its backlog.

    Attributes:
        events, partitions: of the backlog.
        workers: how many processes.
        settings: variables of the processes.
        command: of each process.
    """

    events: int
    partitions: int = 1
    workers: int = 1
    settings: Mapping[str, str] | None = None
    command: Sequence[str] = LAKEFEED


def run(bench: Bench) -> Result:
    """Measure batches."""
    many, few = bench.size((1_000_000, 200_000), (30_000, 5_000))
    cases: dict[str, Callable[[], Drained]] = {}
    with (
        bench.broker() as broker,
        instant(bench.folder / "nginx") as fast,
        seaweed(bench.folder / "seaweedfs") as real,
    ):
        log = bench.folder / "workers.log"
        for store in (fast, real):
            kinds = {
                "batches, 1 partition, one worker": _Case(many, settings=_BATCHES),
                "batches, 4 partitions, one worker": _Case(many, 4, settings=_BATCHES),
                "batches, 4 partitions, two workers": _Case(many, 4, 2, settings=_BATCHES),
                "batches, 4 partitions, four workers": _Case(many, 4, 4, settings=_BATCHES),
                "objects, 1 partition, one worker": _Case(few, settings=_OBJECTS),
            }
            for peer, command in peers.found("connect_batches.yaml").items():
                kinds[f"{peer}, 1 partition, one worker"] = _Case(many, settings={}, command=command)
            for name, case in kinds.items():
                cases[f"{store.name}: {name}"] = partial(_drain, broker.bootstrap_servers, store, case, log)
        found = bench.rounds(_ROUNDS, cases)
    notes = (
        f"Backlog: {many:,} events of {EVENT_BYTES} bytes for batches of 10,000, {few:,} for one object per "
        f"event; measured until the group has committed {_SHARE:.0%} of it, as the last batch lingers.",
    )
    return Result([*_ratios(found, fast.name), *_each(found)], notes)


def _drain(broker: str, store: Store, case: _Case, log: Path) -> Drained:
    """Measure how fast a suspended group commits a backlog: only what is stored is committed."""
    with topic(broker, "batches", case.partitions) as name:
        environment = consumer_environment(broker, store, name) | dict(case.settings or {})
        with (
            Workers(case.command, case.workers, environment, log) as group,
            closing(_reader(broker, group.group)) as reader,
        ):
            wait_for_group(broker, group.group, name, case.partitions, case.workers)
            store_first(broker, store, name, case.partitions, group)
            group.hold()
            fill(broker, name, case.partitions, events(case.events))
            before, cpu = _committed(reader, name, case.partitions), group.cpu_seconds()
            began = time.monotonic()
            group.release()
            stored = 0
            while stored < case.events * _SHARE:
                time.sleep(_LOOK_SECONDS)
                stored = _committed(reader, name, case.partitions) - before
                group.check()
            return Drained(stored, time.monotonic() - began, group.cpu_seconds() - cpu)


def _reader(broker: str, group: str) -> Consumer:
    return Consumer({"bootstrap.servers": broker, "group.id": group})


def _committed(reader: Consumer, name: str, partitions: int) -> int:
    asked = [TopicPartition(name, number) for number in range(partitions)]
    return sum(max(0, each.offset) for each in reader.committed(asked, timeout=30))


def _ratios(found: Mapping[str, list[Drained]], fast: str) -> list[Figure]:
    def rates(case: str) -> list[float]:
        return [drained.rate for drained in found[f"{fast}: {case}"]]

    one, objects = "batches, 1 partition, one worker", "objects, 1 partition, one worker"
    figures = [
        ratio(
            "ratio_to_objects",
            f"batches ÷ one object per event, 1 partition, one worker, {fast}",
            rates(one),
            rates(objects),
            Target("at least", 3.5),
        ),
        Figure(
            "cpu_us_per_event",
            f"worker CPU per batched event, 1 partition, one worker, {fast}",
            tuple(drained.cpu_us for drained in found[f"{fast}: {one}"]),
            "µs",
            Target("at most", 8),
        ),
    ]
    figures += [
        ratio(
            f"{workers}_workers_ratio",
            f"{workers} workers ÷ one, batches, 4 partitions, {fast}",
            rates(f"batches, 4 partitions, {workers} workers"),
            rates("batches, 4 partitions, one worker"),
        )
        for workers in ("two", "four")
    ]
    figures += [
        ratio(
            f"ratio_to_{peer.lower().replace(' ', '_')}",
            f"batches ÷ {peer} with batches, {fast}",
            rates(one),
            rates(f"{peer}, 1 partition, one worker"),
            Target("at least", 3),
        )
        for peer in peers.found()
    ]
    return figures


def _each(found: Mapping[str, list[Drained]]) -> list[Figure]:
    """Rate and CPU of every case."""
    figures = []
    for case, rounds in found.items():
        key = "_".join(re.findall(r"[a-z0-9]+", case.lower()))
        figures.append(Figure(f"{key}_rate", f"events/s, {case}", tuple(one.rate for one in rounds), "/s"))
        figures.append(
            Figure(f"{key}_cpu_us", f"CPU per event, {case}", tuple(one.cpu_us for one in rounds), "µs")
        )
    return figures


SUITE = Suite("Batches: from a backlog in Kafka to batch objects", run, needs=(NGINX, HEADERS_MORE))
