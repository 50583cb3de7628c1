"""Three brokers, two replicas in sync: what a failover of a leader, coordinator or controller costs."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.run import Run, Variant
from tests.chaos.schedule import CLUSTER_QUICK, Size, plan

# The chaos suite's run, and of its kills those of brokers alone.
KRAFT = dataclasses.replace(
    CLUSTER_QUICK,
    events=1_000,
    files=1,
    seconds=24,
    workers=2,
    kills=0,
    leaves=0,
    joins=0,
    producer_kills=0,
    broker_restarts=0,
    zookeeper_restarts=0,
    broken=0,
    rebalances=0,
)
# Here the controller is nothing that clients ask, and each kill costs some seconds of CPU.
ZOOKEEPER = dataclasses.replace(KRAFT, controller_kills=0)


@pytest.mark.parametrize(("mode", "size"), [("zookeeper", ZOOKEEPER), ("kraft", KRAFT)])
def test_brokers_that_are_killed_by_role_cost_no_event(mode: str, size: Size, tmp_path: Path) -> None:
    with Run(1, size, plan(1, size), Variant(cluster=mode), tmp_path / "run") as run:
        outcome = asyncio.run(run.go())
    steps = (tmp_path / "run" / "steps.log").read_text()
    assert outcome.verdict.good, (outcome.verdict.examples, steps)
    assert outcome.verdict.stored == size.events
    kills = Counter(leader_kill=1, coordinator_kill=1, controller_kill=size.controller_kills)
    assert outcome.done == +kills
    # Workers outlive it all. The producer does once it runs; without a leader at its start it gives up, and
    # is started again.
    assert outcome.ends["workers"] == {"0": size.workers}, steps
    assert outcome.ends["producer"].keys() <= {"0", "1"}, steps
    assert outcome.slow_stops == 0
