"""The chaos suite's plan: repeated by its seed, as large as its size says, with every kind of fault."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.rows import broken_values, write_files
from tests.chaos.schedule import (
    CLUSTER_FULL,
    CLUSTER_QUICK,
    COMMIT_FAULTS,
    FULL,
    QUICK,
    TABLE_FAULTS,
    Size,
    plan,
    size_of,
)
from tests.helpers.cluster import MODES, SESSION_SECONDS
from tests.helpers.s3_proxy import KINDS, Faults

COMPACTED = size_of(quick=True, compact=True)


@pytest.mark.parametrize("size", [FULL, QUICK, CLUSTER_FULL, CLUSTER_QUICK, COMPACTED])
def test_a_plan_has_everything_that_its_size_says(size: Size) -> None:
    counts = Counter(step.what for steps in plan(7, size).values() for step in steps)
    wanted = {
        "kill": size.kills,
        "stop": size.stops,
        "leave": size.leaves,
        "join": size.joins,
        "producer_kill": size.producer_kills,
        "broker_kill": size.broker_kills,
        "broker_restart": size.broker_restarts,
        "zookeeper_restart": size.zookeeper_restarts,
        "leader_kill": size.leader_kills,
        "coordinator_kill": size.coordinator_kills,
        "controller_kill": size.controller_kills,
        "broken": size.broken,
        "compactor_kill": size.compactor_kills,
        "compactor_stop": size.compactor_stops,
        **dict.fromkeys(KINDS, size.fault_rounds),
        **dict.fromkeys([*COMMIT_FAULTS, *TABLE_FAULTS], size.compaction_rounds),
    }
    assert counts == Counter(wanted)
    for steps in plan(7, size).values():
        assert list(steps) == sorted(steps)
        assert all(0 <= step.at <= size.seconds for step in steps)


def test_the_full_size_is_what_was_promised() -> None:
    assert FULL.kills >= 100
    assert FULL.rebalances >= 50
    assert FULL.events >= 200_000
    assert (FULL.outage_seconds, FULL.late_seconds) == (60, 30)
    of_clusters = {"leader_kills", "coordinator_kills", "controller_kills"}
    fields = {field.name for field in dataclasses.fields(Size)}
    of_compactions = {"compactor_kills", "compactor_stops", "compaction_rounds"}
    assert all(getattr(QUICK, name) > 0 for name in fields - of_clusters - of_compactions)


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("mode", [None, *MODES])
def test_a_compaction_adds_faults_and_leaves_the_others_as_they_are(mode: str | None, quick: bool) -> None:
    size = size_of(quick=quick, cluster=mode, compact=True)
    assert min(size.compactor_kills, size.compactor_stops, size.compaction_rounds) > 0
    plain = {lane: steps for lane, steps in plan(7, size_of(quick=quick, cluster=mode)).items() if steps}
    more = plan(7, size)
    assert {lane: more[lane] for lane in plain} == plain
    assert more.keys() - plain.keys() >= {"compactors", "commits", "tables"}


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_in_a_cluster_brokers_are_killed_by_role_until_another_one_has_it(mode: str, quick: bool) -> None:
    size = size_of(quick=quick, cluster=mode)
    steps = plan(7, size)["broker"]
    assert {"leader_kill", "coordinator_kill", "controller_kill"} <= {step.what for step in steps}
    assert all(step.seconds > SESSION_SECONDS for step in steps if step.what.endswith("kill"))
    assert ("zookeeper_restart" in {step.what for step in steps}) == (mode == "zookeeper")


def test_a_seed_repeats_a_plan_and_another_one_does_not() -> None:
    assert plan(1, COMPACTED) == plan(1, COMPACTED)
    for lane in plan(1, COMPACTED):
        assert plan(1, COMPACTED)[lane] != plan(2, COMPACTED)[lane]


def test_one_lane_does_not_depend_on_the_size_of_another() -> None:
    fewer = plan(1, dataclasses.replace(QUICK, kills=1))
    assert fewer["kills"] != plan(1, QUICK)["kills"]
    assert fewer["store"] == plan(1, QUICK)["store"]


def test_a_seed_repeats_the_rows(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for folder in (first, second):
        folder.mkdir()
    files, expected = write_files(first, 1, 100, 3)
    assert write_files(second, 1, 100, 3)[1] == expected
    assert [path.read_bytes() for path in files] == [(second / path.name).read_bytes() for path in files]
    assert len(expected) == 100
    assert ("part-2.csv", 33) in expected
    assert broken_values(1, 20) == broken_values(1, 20) != broken_values(2, 20)


def test_faults_meet_the_share_of_requests_that_was_ordered() -> None:
    faults = Faults({"slow_down": 0.2, "reset": 0.1}, method="PUT")
    drawn = Counter(faults.draw((n + 0.5) / 1000, b"PUT /b/k HTTP/1.1") for n in range(1000))
    assert drawn == {"slow_down": 200, "reset": 100, None: 700}
    assert faults.draw(0.0, b"GET /b/k HTTP/1.1") is None
    renewed = Faults(keys=("new",))
    assert (
        renewed.draw(0.5, b"PUT / HTTP/1.1\r\nAuthorization: AWS4-HMAC-SHA256 Credential=old/x")
        == "expired_token"
    )
    assert renewed.draw(0.5, b"PUT / HTTP/1.1\r\nAuthorization: AWS4-HMAC-SHA256 Credential=new/x") is None
    commits = Faults({"reset": 1.0}, mention="AWSGlue.UpdateTable")
    assert commits.draw(0.5, b"POST / HTTP/1.1\r\nX-Amz-Target: AWSGlue.UpdateTable") == "reset"
    assert commits.draw(0.5, b"POST / HTTP/1.1\r\nX-Amz-Target: AWSGlue.GetTable") is None
    with pytest.raises(ValueError, match="no such fault: slowdown"):
        Faults({"slowdown": 1.0})
