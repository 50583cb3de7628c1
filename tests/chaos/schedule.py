"""What goes wrong when: a plan made from a seed alone, so that a seed repeats a run."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tests.helpers.cluster import SESSION_SECONDS
from tests.helpers.s3_proxy import ANSWERS, KINDS, TROUBLES

COMMIT_FAULTS = {f"commit_{kind}": kind for kind in (*TROUBLES, "internal_error")}
"""Steps that meet commits to the catalogue, with the kind of fault."""
TABLE_FAULTS = {
    f"table_{kind}": kind for kind in (*TROUBLES, "internal_error", "access_denied", "conditional_conflict")
}
"""Steps that meet a compaction's requests to S3, with the kind of fault."""


@dataclass(frozen=True)
class Size:
    """How much of everything a run has.

    Attributes:
        events: rows of the CSV files together.
        files: how many files they are spread over.
        seconds: how long things go wrong; the producer's rate makes the rows last for most of it.
        kills: consumers killed by `kill -9`.
        stops: consumers stopped for longer than the session timeout, then continued.
        leaves: workers that leave in order and come back.
        joins: further workers that join and leave again.
        producer_kills: producers killed by `kill -9`, and started again.
        broker_kills, broker_restarts, zookeeper_restarts: of each as many.
        fault_rounds: how often each S3 fault is on.
        fault_seconds: for how long at most; at least half of it.
        outage_seconds: how long the S3 server cannot be reached.
        late_seconds: how late late requests and answers are.
        broken: records that are not valid events, sent between the others.
        rebalances: the fewest there must have been; workers leave at the end until there were as many.
        workers: of the consumer group, from the beginning.
        leader_kills, coordinator_kills, controller_kills: in a cluster, brokers killed by `kill -9` that
            lead a partition of the topic, coordinate the consumer group, or are the active controller.
        compactor_kills: compactors killed by `kill -9`.
        compactor_stops: compactors stopped, perhaps amid a commit, and continued after others have committed.
        compaction_rounds: how often each fault of a commit, and each fault of the store of a table, is on.
    """

    events: int
    files: int
    seconds: float
    kills: int
    stops: int
    leaves: int
    joins: int
    producer_kills: int
    broker_kills: int
    broker_restarts: int
    zookeeper_restarts: int
    fault_rounds: int
    fault_seconds: float
    outage_seconds: float
    late_seconds: float
    broken: int
    rebalances: int
    workers: int = 3
    leader_kills: int = 0
    coordinator_kills: int = 0
    controller_kills: int = 0
    compactor_kills: int = 0
    compactor_stops: int = 0
    compaction_rounds: int = 0

    @property
    def rate(self) -> float:
        """Events/s of the producer: after its last kill there is still something to send."""
        return self.events / (0.95 * self.seconds)

    @property
    def broken_records(self) -> int:
        """Records that are not valid events: those of `broken`, and one for each commit that is to fail."""
        return self.broken + self.compaction_rounds * len(COMMIT_FAULTS)


FULL = Size(
    events=200_000,
    files=8,
    seconds=900,
    kills=100,
    stops=12,
    leaves=10,
    joins=10,
    producer_kills=20,
    broker_kills=4,
    broker_restarts=4,
    zookeeper_restarts=4,
    fault_rounds=3,
    fault_seconds=14,
    outage_seconds=60,
    late_seconds=30,
    broken=200,
    rebalances=50,
)
QUICK = Size(
    events=10_000,
    files=3,
    seconds=120,
    kills=8,
    stops=1,
    leaves=1,
    joins=1,
    producer_kills=3,
    broker_kills=1,
    broker_restarts=1,
    zookeeper_restarts=1,
    fault_rounds=1,
    fault_seconds=6,
    outage_seconds=12,
    late_seconds=8,
    broken=20,
    rebalances=5,
)

# In a cluster the brokers fail. S3 and stopped workers, which make late puts, are left out, so that a put of
# an event whose offset was committed can only be one that was read again.
CLUSTER_FULL = replace(
    FULL,
    events=100_000,
    seconds=450,
    kills=30,
    stops=0,
    leaves=5,
    joins=5,
    producer_kills=10,
    broker_kills=0,
    broker_restarts=4,
    zookeeper_restarts=2,
    fault_rounds=0,
    rebalances=20,
    leader_kills=5,
    coordinator_kills=5,
    controller_kills=5,
)
CLUSTER_QUICK = replace(
    QUICK,
    events=4_000,
    seconds=60,
    kills=3,
    stops=0,
    producer_kills=1,
    broker_kills=0,
    broker_restarts=1,
    zookeeper_restarts=1,
    fault_rounds=0,
    broken=10,
    rebalances=3,
    leader_kills=1,
    coordinator_kills=1,
    controller_kills=1,
)


def size_of(*, quick: bool, cluster: str | None = None, compact: bool = False) -> Size:
    """The size of a run, with one broker or with a cluster in a mode, with or without compaction."""
    full, small = (FULL, QUICK) if cluster is None else (CLUSTER_FULL, CLUSTER_QUICK)
    size = small if quick else full
    if cluster == "kraft":
        size = replace(size, zookeeper_restarts=0)
    return _compacted(size) if compact else size


def _compacted(size: Size) -> Size:
    """A run's size with faults of its compaction: a kill every 15 s, as a start takes some seconds."""
    return replace(
        size,
        compactor_kills=round(size.seconds / 15),
        compactor_stops=max(1, round(size.seconds / 120)),
        compaction_rounds=max(1, round(size.seconds / 300)),
    )


@dataclass(frozen=True, order=True)
class Step:
    """One thing that goes wrong.

    Attributes:
        at: when, in seconds since the begin.
        what: `kill`, `slow_down` and so on.
        seconds: for how long.
        share: of the requests that it meets, or of the workers or brokers to choose from, which one.
    """

    at: float
    what: str
    seconds: float = 0.0
    share: float = 1.0


Plan = Mapping[str, tuple[Step, ...]]


def plan(seed: int, size: Size) -> Plan:
    """The steps of each lane, in order; lanes run concurrently, the steps of one do not overlap.

    Each lane has a random generator of its own, so that the size of one does not change the others.
    """
    return {lane: tuple(make(random.Random(f"{seed} {lane}"), size)) for lane, make in _LANES.items()}


def _spread(chance: random.Random, count: int, begin: float, end: float) -> list[float]:
    """Moments between two, in order: one somewhere in each of `count` equal stretches."""
    stretch = (end - begin) / max(count, 1)
    return [begin + (number + chance.random()) * stretch for number in range(count)]


def _shuffled(chance: random.Random, *counted: tuple[str, int]) -> list[str]:
    names = [name for name, count in counted for _ in range(count)]
    chance.shuffle(names)
    return names


def _kills(chance: random.Random, size: Size) -> list[Step]:
    """A killed worker comes back at once, or after the group has noticed that it is gone."""
    moments = _spread(chance, size.kills, 0.03 * size.seconds, size.seconds)
    return [Step(at, "kill", chance.choice((0.0, 1.0, 3.0, 8.0)), chance.random()) for at in moments]


def _members(chance: random.Random, size: Size) -> list[Step]:
    names = _shuffled(chance, ("stop", size.stops), ("leave", size.leaves), ("join", size.joins))
    moments = _spread(chance, len(names), 0.05 * size.seconds, 0.95 * size.seconds)
    seconds = {"stop": (8.0, 12.0), "leave": (0.0, 10.0), "join": (8.0, 20.0)}
    return [
        Step(at, name, chance.uniform(*seconds[name]), chance.random())
        for at, name in zip(moments, names, strict=True)
    ]


def _producer(chance: random.Random, size: Size) -> list[Step]:
    moments = _spread(chance, size.producer_kills, 0.03 * size.seconds, 0.75 * size.seconds)
    return [Step(at, "producer_kill", chance.uniform(0, 2)) for at in moments]


def _broker(chance: random.Random, size: Size) -> list[Step]:
    names = _shuffled(
        chance,
        ("broker_kill", size.broker_kills),
        ("broker_restart", size.broker_restarts),
        ("zookeeper_restart", size.zookeeper_restarts),
        ("leader_kill", size.leader_kills),
        ("coordinator_kill", size.coordinator_kills),
        ("controller_kill", size.controller_kills),
    )
    moments = _spread(chance, len(names), 0.05 * size.seconds, 0.9 * size.seconds)
    # A killed broker of a cluster is down until another one has taken its place.
    away = dict.fromkeys(("leader_kill", "coordinator_kill", "controller_kill"), SESSION_SECONDS)
    return [
        Step(at, name, away.get(name, 0) + chance.uniform(0, 4), chance.random())
        for at, name in zip(moments, names, strict=True)
    ]


def _store(chance: random.Random, size: Size) -> list[Step]:
    """Each kind of fault in each round, in random order: some requests fail, or all of them."""
    steps: list[Step] = []
    kinds = [kind for _ in range(size.fault_rounds) for kind in chance.sample(KINDS, len(KINDS))]
    # Like `_spread`, but the first fault is there early: it has most of all to do.
    for at, kind in zip(_spread(chance, len(kinds), 0, 0.95 * size.seconds), kinds, strict=True):
        seconds = chance.uniform(0.5, 1) * size.fault_seconds
        share = chance.choice((0.2, 1.0)) if kind in ANSWERS else chance.choice((0.05, 0.2))
        if kind == "slow_down":
            share = 0.2
        if kind == "outage":
            seconds, share = size.outage_seconds, 1.0
        steps.append(Step(at, kind, seconds, share))
    return steps


def _broken(chance: random.Random, size: Size) -> list[Step]:
    return [Step(at, "broken") for at in _spread(chance, size.broken, 0, 0.9 * size.seconds)]


def _compactors(chance: random.Random, size: Size) -> list[Step]:
    names = _shuffled(
        chance, ("compactor_kill", size.compactor_kills), ("compactor_stop", size.compactor_stops)
    )
    moments = _spread(chance, len(names), 0.1 * size.seconds, 0.95 * size.seconds)
    seconds = {"compactor_kill": (0.0, 2.0), "compactor_stop": (5.0, 10.0)}
    return [
        Step(at, name, chance.uniform(*seconds[name]), chance.random())
        for at, name in zip(moments, names, strict=True)
    ]


def _faults_of(kinds: Mapping[str, str], share: float) -> Callable[[random.Random, Size], list[Step]]:
    """A lane of faults of the compaction, each until it has met a request; by `what` of their steps."""

    def make(chance: random.Random, size: Size) -> list[Step]:
        names = [name for _ in range(size.compaction_rounds) for name in chance.sample([*kinds], len(kinds))]
        # As long as there are events to come, there are commits to be met.
        moments = _spread(chance, len(names), 0.05 * size.seconds, 0.7 * size.seconds)
        return [Step(at, name, chance.uniform(0, 2), share) for at, name in zip(moments, names, strict=True)]

    return make


_LANES: Mapping[str, Callable[[random.Random, Size], list[Step]]] = {
    "kills": _kills,
    "members": _members,
    "producer": _producer,
    "broker": _broker,
    "store": _store,
    "broken": _broken,
    "compactors": _compactors,
    "commits": _faults_of(COMMIT_FAULTS, 1.0),
    "tables": _faults_of(TABLE_FAULTS, 0.3),
}
