"""Measures the end-to-end latency from appending a record to its object, compared with the put alone.

Both times are read afterwards, without polling during the measurement. The broker sets the timestamp of each
record when it appends it (`message.timestamp.type=LogAppendTime`): milliseconds, rounded down, so half a
millisecond too much on average, against us. SeaweedFS's filer logs with nanoseconds when it has an object's
entry. The put alone is the consumer's own client in a separate process, measured from its call to the same
entry in the same log. All clocks are this machine's.

The loads are fractions of what the sink reaches on SeaweedFS, measured first. Before that, events pass
through uncounted: production brokers run for days, but this one has just started. While its JVM compiles the
code, for a minute of small requests, it takes up to four times the CPU, which the store lacks.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.figures import Figure, Result, Target, percentile, ratio
from benchmarks.paced_puts import key
from benchmarks.stores import Seaweed, seaweed
from benchmarks.suite import Bench, Suite
from benchmarks.topics import append_times, events, fill_at, topic, wait_for_group
from benchmarks.workers import (
    LAKEFEED,
    Backlog,
    Workers,
    consumer_environment,
    drain,
    store_first,
    without_aws,
)
from tests.helpers.waiting import wait_for

_ROUNDS = 3
_LOADS = {"10 %": 0.1, "50 %": 0.5, "80 %": 0.8}
_HALF = "50 %"
# Connections are opened and caches filled: puts that start in this time are not counted.
_WARM_SECONDS = 1.0
_BROKER_WARM_SECONDS = 50.0
_WARMING_RATE = 1_000.0
_STORED_SECONDS = 120.0
_STAMPED = {"message.timestamp.type": "LogAppendTime"}


@dataclass(frozen=True)
class Latency:
    """Milliseconds until the object existed."""

    p50: float
    p99: float
    most: float

    @classmethod
    def of(cls, milliseconds: Iterable[float]) -> Latency:
        """Of the times of all events."""
        taken = list(milliseconds)
        return cls(percentile(taken, 0.5), percentile(taken, 0.99), max(taken))


def run(bench: Bench) -> Result:
    """Measure latency."""
    seconds = bench.size(6.0, 1.0) + _WARM_SECONDS
    with (
        bench.broker() as running,
        seaweed(bench.folder / "seaweedfs") as store,
    ):
        broker, log = running.bootstrap_servers, bench.folder / "workers.log"
        backlog = Backlog(bench.size(200_000, 1_000), 1, bench.size(6.0, 30.0))
        warming = bench.size(_BROKER_WARM_SECONDS, 2.0)
        # The number of requests, not events, determines what the JVM compiles.
        _piped(broker, store, _WARMING_RATE, warming, log, linger_ms=0)
        rate = drain(broker, store, backlog, log).rate
        bench.say(f"the sink reaches {rate:.0f} events/s on {store.name}")
        cases: dict[str, Callable[[], Latency]] = {}
        for load, share in _LOADS.items():
            cases[f"put alone at {load}"] = partial(_alone, store, rate * share, seconds)
            cases[f"end to end at {load}"] = partial(_piped, broker, store, rate * share, seconds, log)
        found = bench.rounds(_ROUNDS, cases)
    notes = (
        f"One worker, 1 partition, {store.name}. Full load is the {rate:,.0f} events/s that the sink "
        f"reached there just before; each load lasts {seconds:g} s, of which the first is not counted.",
        f"Before measuring, {_WARMING_RATE:,.0f} events/s for {warming:g} s, sent one by one, let the "
        "broker's JVM compile its code.",
    )
    return Result([*_figures(found), Figure("full_rate", "full load", (rate,), "/s")], notes)


def _alone(store: Seaweed, rate: float, seconds: float) -> Latency:
    prefix = f"alone/{uuid.uuid4().hex[:8]}"
    since = time.time()
    arguments = {"prefix": prefix, "rate": rate, "seconds": seconds}
    output = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.paced_puts"),
            *(f"--{name}={value}" for name, value in arguments.items()),
        ],
        env=without_aws() | consumer_environment("localhost:9092", store, "none"),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    began = dict(enumerate(json.loads(output)))
    return _between(began, store.born(prefix, since))


def _piped(
    broker: str, store: Seaweed, rate: float, seconds: float, log: Path, linger_ms: int = 5
) -> Latency:
    bodies = events(int(rate * seconds))
    with topic(broker, "latency", 1, _STAMPED) as name:
        environment = consumer_environment(broker, store, name)
        with Workers(LAKEFEED, 1, environment, log) as group:
            wait_for_group(broker, group.group, name, 1, 1)
            store_first(broker, store, name, 1, group)
            before, since = store.stored(), time.time()
            fill_at(broker, name, bodies, rate, linger_ms)

            def all_stored() -> bool:
                group.check()
                return store.stored() - before >= len(bodies)

            wait_for(all_stored, _STORED_SECONDS, "not all events were stored", every=store.look_seconds)
        appended = append_times(broker, name, 1 + len(bodies))
        born = store.born(f"events/{name}", since)
    del appended[0]  # the one before all
    return _between({offset: time_ms * 1_000_000 for offset, time_ms in appended.items()}, born)


def _between(began: dict[int, int], born: dict[str, int]) -> Latency:
    """Latencies from start times, in ns by offset, and object times, in ns by the last part of the key."""
    # At least the last one, however late the first was on a machine that had other things to do.
    counted = min(min(began.values()) + _WARM_SECONDS * 1e9, max(began.values()))
    return Latency.of(
        (born[key(number)] - begin) / 1e6 for number, begin in began.items() if begin >= counted
    )


def _figures(found: dict[str, list[Latency]]) -> list[Figure]:
    figures = []
    for load in _LOADS:
        piped, alone = found[f"end to end at {load}"], found[f"put alone at {load}"]
        share = load.split()[0]
        figures.append(
            ratio(
                "p99_ratio_at_half_load" if load == _HALF else f"p99_ratio_at_{share}_percent",
                f"p99 end to end ÷ p99 of the put alone, at {load} load",
                [one.p99 for one in piped],
                [one.p99 for one in alone],
                Target("at most", 3) if load == _HALF else None,
            )
        )
        for name, rounds in (("end to end", piped), ("put alone", alone)):
            key_start = f"{name.replace(' ', '_')}_at_{share}_percent"
            for what in ("p50", "p99", "most"):
                shown = "max" if what == "most" else what
                values = tuple(getattr(one, what) for one in rounds)
                figures.append(
                    Figure(f"{key_start}_{shown}_ms", f"{name}, {shown}, at {load} load", values, "ms")
                )
    return figures


SUITE = Suite("Latency: end to end", run)
