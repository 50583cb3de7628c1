"""Measures events/s stored, compared with obstore alone and a tutorial agent."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks import peers
from benchmarks.figures import Figure, Result, Target, ratio
from benchmarks.programs import HEADERS_MORE, NGINX
from benchmarks.raw_puts import ceiling
from benchmarks.stores import Store, instant, seaweed
from benchmarks.suite import Bench, Suite
from benchmarks.topics import EVENT_BYTES
from benchmarks.workers import TUTORIAL, Backlog, Drained, drain

_ROUNDS = 3
_CONCURRENCIES = (16, 32, 64, 128)
_SHAPES = {
    "1 partition, one worker": (1, 1),
    "4 partitions, one worker": (4, 1),
    "4 partitions, two workers": (4, 2),
}
_ONE, _FOUR, _TWO_WORKERS = _SHAPES
_OBSTORE, _TUTORIAL = "obstore alone", "tutorial agent"
# The tutorial agent stores a few hundred events/s: it gets fewer events.
_TUTORIAL_SHARE = 40

_Rounds = dict[str, list[Drained]]


def run(bench: Bench) -> Result:
    """Measure the sink."""
    events, seconds = bench.size((200_000, 5.0), (2_000, 30.0))
    concurrencies = bench.size(_CONCURRENCIES, _CONCURRENCIES[:1])
    with (
        bench.broker() as broker,
        instant(bench.folder / "nginx") as fast,
        seaweed(bench.folder / "seaweedfs") as real,
    ):

        def measure(store: Store, backlog: Backlog, **process: Any) -> Drained:
            return drain(broker.bootstrap_servers, store, backlog, bench.folder / "workers.log", **process)

        best: dict[str, int] = {}
        for store in (fast, real):
            bench.say(f"looking for the best number of puts in flight for obstore, {store.name}")
            tried = {number: ceiling(store, events, seconds / 2, number).rate for number in concurrencies}
            best[store.name] = max(tried, key=lambda number: tried[number])
        cases: dict[str, Callable[[], Drained]] = {}
        one = Backlog(events, 1, seconds)
        few = Backlog(events // _TUTORIAL_SHARE, 1, seconds)
        for store in (fast, real):
            for shape, (partitions, workers) in _SHAPES.items():
                backlog = Backlog(events, partitions, seconds)
                cases[f"{store.name}: {shape}"] = partial(measure, store, backlog, workers=workers)
            cases[f"{store.name}: {_OBSTORE}"] = partial(ceiling, store, events, seconds, best[store.name])
            cases[f"{store.name}: {_TUTORIAL}"] = partial(measure, store, few, command=TUTORIAL)
            for peer, command in peers.found().items():
                cases[f"{store.name}: {peer}"] = partial(measure, store, one, command=command)
        found = bench.rounds(_ROUNDS, cases)
    notes = (
        f"Backlog: {events:,} events of {EVENT_BYTES} bytes, of which at most {seconds:g} s are measured; "
        f"the tutorial agent gets {events // _TUTORIAL_SHARE:,}.",
        "obstore alone: the same bodies as conditional puts on uvloop, with the best of "
        f"{', '.join(map(str, concurrencies))} puts in flight: "
        + ", ".join(f"{number} for {name}" for name, number in best.items())
        + ".",
    )
    return Result([*_ratios(found, fast.name, real.name), *_each(found)], notes)


def _ratios(found: _Rounds, fast: str, real: str) -> list[Figure]:
    def rates(store: str, case: str) -> list[float]:
        return [drained.rate for drained in found[f"{store}: {case}"]]

    figures = [
        ratio(
            "ratio_to_obstore_ceiling",
            f"sink ÷ obstore alone, {_ONE}, {fast}",
            rates(fast, _ONE),
            rates(fast, _OBSTORE),
            Target("at least", 4),
        ),
        ratio(
            "ratio_to_tutorial",
            f"sink ÷ tutorial agent, {_ONE}, {fast}",
            rates(fast, _ONE),
            rates(fast, _TUTORIAL),
            Target("at least", 75),
        ),
        ratio(
            "two_workers_ratio",
            f"two workers ÷ one, 4 partitions, {fast}",
            rates(fast, _TWO_WORKERS),
            rates(fast, _FOUR),
            Target("at least", 1.6),
        ),
        Figure(
            "cpu_us_per_event",
            f"worker CPU per event, {_ONE}, {fast}",
            tuple(drained.cpu_us for drained in found[f"{fast}: {_ONE}"]),
            "µs",
            Target("at most", 40),
        ),
    ]
    for key, case in (("obstore", _OBSTORE), ("tutorial", _TUTORIAL)):
        figures.append(
            ratio(
                f"seaweedfs_ratio_to_{key}",
                f"sink ÷ {case}, {_ONE}, {real}",
                rates(real, _ONE),
                rates(real, case),
            )
        )
    return figures


def _each(found: _Rounds) -> list[Figure]:
    """Rate and CPU of every case."""
    figures = []
    for case, rounds in found.items():
        key = "_".join(re.findall(r"[a-z0-9]+", case.lower()))
        figures.append(Figure(f"{key}_rate", f"events/s, {case}", tuple(one.rate for one in rounds), "/s"))
        figures.append(
            Figure(f"{key}_cpu_us", f"CPU per event, {case}", tuple(one.cpu_us for one in rounds), "µs")
        )
    return figures


SUITE = Suite("Sink: from a backlog in Kafka to objects", run, needs=(NGINX, HEADERS_MORE))
