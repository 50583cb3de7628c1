"""From one object per event to batches, with a compactor next to both: the table has each event once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import compose, containers, state
from tests.e2e.pipeline import (
    TOPIC,
    publishing,
    publishing_slowly,
    records,
    stored,
    wait_all_stored,
    write_rows,
)
from tests.helpers.analytics.api import answer, count_once, tables
from tests.helpers.waiting import wait_for

TABLE = f"{TOPIC}_iceberg"

pytestmark = pytest.mark.usefixtures("stack", "compactor")


@pytest.fixture(scope="module")
def switched(kafka: str, s3: Any) -> Iterator[int]:
    """The consumer stores batches; yields how many objects of single events there were before."""
    before = len(wait_all_stored(kafka, s3))
    compose("stop", "consumer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEFEED_LAYOUT", "batches")
        patch.setenv("LAKEFEED_BATCH_LINGER_SECONDS", "1")
        compose("--profile", "iceberg", "up", "--detach", "--wait", "consumer", "analytics", "compactor")
        yield before


def wait_compacted(api: httpx.Client, count: int) -> None:
    """Wait until the table has this many events; it must never have one twice."""

    def complete() -> bool:
        found = count_once(api, TABLE)
        assert found <= count
        return found == count

    wait_for(lambda: TABLE in tables(api), 120, state, every=1)
    wait_for(complete, 120, state, every=2)


def test_the_compactor_adds_the_events_that_have_their_own_objects(
    kafka: str, s3: Any, api: httpx.Client
) -> None:
    wait_compacted(api, len(wait_all_stored(kafka, s3)))


def test_after_the_switch_new_events_are_in_batches_and_the_table_has_all(
    switched: int, kafka: str, s3: Any, api: httpx.Client, tmp_path: Path
) -> None:
    with publishing(write_rows(tmp_path / "batched.csv", 1500), "--key", "Date"):
        pass
    sent = len(records(kafka))
    assert sent == switched + 1500
    wait_compacted(api, sent)
    assert len(stored(s3)) == switched
    batches = s3.list_objects_v2(Bucket="lakefeed", Prefix=f"batches/{TOPIC}/")["Contents"]
    assert all(re.search(r"/dt=\d{4}-\d\d-\d\d/\d{5}-\d{20}\.json\.gz$", each["Key"]) for each in batches)
    assert len(batches) < 1500 / 10
    assert stored(s3, "dead-letters/") == {}
    crawled = f'SELECT count(*) AS events FROM "batches_{TOPIC}"'  # noqa: S608

    wait_for(lambda: f"batches_{TOPIC}" in tables(api), 120, state, every=1)
    wait_for(lambda: answer(api, crawled)[0]["events"] == 1500, 120, state, every=2)


@pytest.mark.usefixtures("switched")
def test_a_killed_compactor_adds_each_event_once(kafka: str, api: httpx.Client, tmp_path: Path) -> None:
    with publishing_slowly(write_rows(tmp_path / "compacted.csv", 1500), "--key", "Date"):
        compose("--profile", "iceberg", "kill", "compactor")
        compose("--profile", "iceberg", "up", "--detach", "--wait", "--no-recreate", "compactor")
    wait_compacted(api, len(records(kafka)))
    (compactor,) = (each for each in containers() if each["Service"] == "compactor")
    assert compactor["Health"] == "healthy"
