"""The services against a lake that Terraform made: they change nothing of it, and their policies suffice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer

from lakefeed_analytics.iceberg.files import place_of
from lakefeed_analytics.iceberg.maintain import orphans, remove
from lakefeed_analytics.iceberg.parts import connect
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common.settings import load
from tests.helpers.infra import terraform
from tests.helpers.rights import (
    ACCESS_KEYS,
    ACCOUNT,
    Policy,
    Right,
    given,
    giving,
    needed,
    read_explained,
    wanted,
)
from tests.helpers.services import Service
from tests.helpers.shared_servers import shared
from tests.helpers.waiting import wait_for
from tests.infra.conftest import BUCKET, REGION, Cloud, Tutorial

ROOT = Path(__file__).resolve().parents[2]
EXPLAINED = Path(__file__).with_name("unused_rights.yml")
TOPIC, BATCHED = "demo_testing", "batched"
ROWS = 60

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def policies(tutorial: Tutorial, cloud: Cloud, infra: Path) -> dict[str, Policy]:
    """The policies by role, as IAM has them; the consumer's of the other layout as Terraform plans it."""
    lake = terraform.Terraform(infra / "modules" / "lake", terraform.environment(cloud.endpoint_url))
    lake.init()
    planned = lake.planned(f"-var=bucket={BUCKET}", "-var=layout=batches")["planned_values"]["outputs"]
    iam = cloud.client("iam")
    found: dict[str, Policy] = {"consumer-batches": json.loads(planned["policies"]["value"]["consumer"])}
    for service in ("consumer", "analytics", "compactor", "maintain"):
        arn = f"arn:aws:iam::{ACCOUNT}:policy/lakefeed-{service}"
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        found[service] = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    crawler = iam.get_role_policy(RoleName="lakefeed-crawler", PolicyName="crawl")
    return {**found, "crawler": crawler["PolicyDocument"]}


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with shared("kafka", tmp_path_factory.mktemp("kafka")) as address:
        yield address


@pytest.fixture(scope="module")
def used(tutorial: Tutorial, cloud: Cloud, kafka: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The services have done all that they can do; returns the log of the analytics service."""
    folder = tmp_path_factory.mktemp("services")
    common = {
        **{name: "" for name in os.environ if name.startswith(("AWS_", "LAKEFEED_"))},
        **tutorial.outputs["settings"],
        "AWS_ENDPOINT_URL": cloud.endpoint_url,
        "AWS_SECRET_ACCESS_KEY": "unchecked",
        "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "LAKEFEED_CRAWL_POLL_SECONDS": "0.5",
        "LAKEFEED_CRAWL_MIN_INTERVAL_SECONDS": "0",
    }
    consumer = {**common, "AWS_ACCESS_KEY_ID": ACCESS_KEYS["consumer"]}
    command("producer", common, "publish", str(ROOT / "data" / "prices.csv"), "--limit", str(ROWS))
    broker = Producer({"bootstrap.servers": kafka})
    broker.produce(TOPIC, b"no JSON")
    assert broker.flush(20) == 0
    store(ROWS + 1, folder / "first", consumer)
    listed = command("consumer", consumer, "dead-letters", "list", "--json")
    assert "replayed" in listed
    command("consumer", consumer, "dead-letters", "show", f"{TOPIC}/0/{ROWS}")
    command("consumer", consumer, "dead-letters", "replay", "--topic", TOPIC)
    analytics = {**common, "AWS_ACCESS_KEY_ID": ACCESS_KEYS["analytics"]}
    with Service("analytics", "serve", log=folder / "analytics", **analytics) as running:
        running.wait_ready()
        with httpx.Client(base_url=f"http://127.0.0.1:{running.port}", timeout=60) as api:
            ask(api)
            # A new column, so that the next crawl changes table and partition.
            broker.produce(TOPIC, b'{"ticker": "AAPL", "surprise": 1}')
            assert broker.flush(20) == 0
            # Another group finds every other object there, and reads it.
            again = {**consumer, "LAKEFEED_CONSUMER_GROUP": "second"}
            store(ROWS + 3, folder / "second", again)
            api.post("/v1/crawls").raise_for_status()
            columns = f"/v1/tables/{TOPIC}"
            wait_for(lambda: "surprise" in api.get(columns).text, 60, "the new column", every=0.3)
            # Stopped before its end, the crawl would not have come to the partition.
            wait_for(lambda: api.get("/v1/crawls").json()["state"] == "READY", 60, "its end", every=0.3)
            api.delete("/v1/crawls")
        running.stop()
    # A topic of its own in the other layout, which a table of each topic is made of.
    other = {"LAKEFEED_TOPIC": BATCHED}
    command("producer", common | other, "publish", str(ROOT / "data" / "prices.csv"), "--limit", "3")
    batches = {
        **consumer,
        **other,
        "AWS_ACCESS_KEY_ID": ACCESS_KEYS["consumer-batches"],
        "LAKEFEED_LAYOUT": "batches",
        "LAKEFEED_BATCH_LINGER_SECONDS": "0.5",
    }
    store(3, folder / "batches", batches)
    # Another group finds the batch there.
    store(3, folder / "adopted", {**batches, "LAKEFEED_CONSUMER_GROUP": "second"})
    tables = {**common, "LAKEFEED_TOPICS": f"{TOPIC},{BATCHED}"}
    compactor = {**tables, "AWS_ACCESS_KEY_ID": ACCESS_KEYS["compactor"]}
    assert f"{BATCHED}_iceberg: 3 rows" in command("analytics", compactor, "compact")
    command("analytics", compactor, "rebuild")
    maintain({**tables, "AWS_ACCESS_KEY_ID": ACCESS_KEYS["maintain"]}, cloud)
    return (folder / "analytics").read_text()


def store(count: int, log: Path, settings: dict[str, str]) -> None:
    """Run the consumer until it has processed this many records."""
    with Service("consumer", "run", log=log, **settings) as consumer:
        objects = "lakefeed_consumer_objects_total"
        wait_for(lambda: consumer.metric(objects) >= count, 120, lambda: consumer.log)
        assert consumer.stop() == 0, consumer.log


def maintain(settings: dict[str, str], cloud: Cloud) -> None:
    """Maintain the tables; the local Athena refuses the first statement, after the orphan files."""
    done = run("analytics", settings, "maintain")
    assert done.returncode == 1, done.stderr
    assert "removed 0 orphan files" in done.stdout
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        loaded = load(CompactSettings)
        with connect(loaded, TOPIC) as parts:
            _, key = place_of(f"{parts.table.existing().location}/data/orphan.parquet")
            cloud.client("s3").put_object(Bucket=BUCKET, Key=key, Body=b"")
            later = datetime.now(UTC) + timedelta(days=8)
            found = orphans(parts.s3, loaded, parts.table, later)
            assert [each.key for each in found.files] == [key]
            remove(parts.s3, loaded, found)


def command(service: str, settings: dict[str, str], *arguments: str) -> str:
    done = run(service, settings, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(service: str, settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name(f"lakefeed-{service}"))
    return subprocess.run(
        [program, *arguments], env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )


def ask(api: httpx.Client) -> None:
    """What users ask the analytics service for."""
    wait_for(lambda: api.get("/v1/tables").raise_for_status().json()["tables"], 60, "the table", every=0.3)
    sql = f'SELECT count(*) AS n FROM "{TOPIC}"'  # noqa: S608 - a name of ours
    query = api.post("/v1/queries", json={"sql": sql}).raise_for_status().json()
    address = f"/v1/queries/{query['id']}"

    def ended() -> Any:
        state = api.get(address).raise_for_status().json()["state"]
        return state if state in ("SUCCEEDED", "FAILED") else None

    assert wait_for(ended, 60, "the end of the query") == "SUCCEEDED"
    assert api.get(f"{address}/rows").raise_for_status().json()["rows"] == [[ROWS]]
    for path in ("/v1/queries", "/v1/crawls", f"/v1/tables/{TOPIC}", f"/v1/tables/{TOPIC}/partitions"):
        api.get(path).raise_for_status()
    api.delete(address).raise_for_status()


def test_the_services_find_nothing_to_change(used: str) -> None:
    assert "created" not in used
    assert "updated" not in used


def test_terraform_finds_nothing_to_change(used: str, tutorial: Tutorial) -> None:
    assert tutorial.terraform.changes() == []


def rights(cloud: Cloud, role: str) -> list[Right]:
    return list(wanted(cloud.calls(ACCESS_KEYS[role])))


@pytest.mark.parametrize("role", ACCESS_KEYS)
def test_the_policy_allows_every_call(
    role: str, used: str, cloud: Cloud, policies: dict[str, Policy]
) -> None:
    asked = rights(cloud, role)
    assert asked
    assert [str(right) for right in asked if not giving(policies[role], right)] == []


@pytest.mark.parametrize("role", ACCESS_KEYS)
def test_each_right_is_needed_by_a_call_or_explained(
    role: str, used: str, cloud: Cloud, policies: dict[str, Policy]
) -> None:
    explained = read_explained(EXPLAINED).get(role, {})
    unused = given(policies[role]) - needed(policies[role], rights(cloud, role))
    assert sorted(unused) == sorted(explained)


def test_an_explanation_is_of_a_role_and_says_something() -> None:
    explained = read_explained(EXPLAINED)
    assert explained.keys() <= ACCESS_KEYS.keys()
    assert all(len(why) > 30 for rights in explained.values() for why in rights.values())


LAKE = f"arn:aws:s3:::{BUCKET}"
GLUE = f"arn:aws:glue:{REGION}:{ACCOUNT}"


@pytest.mark.parametrize(
    ("role", "action", "resource"),
    [
        ("consumer", "s3:DeleteObject", f"{LAKE}/events/demo_testing/a.json"),
        ("consumer", "s3:PutObject", f"{LAKE}/athena-results/a.csv"),
        ("consumer", "s3:PutObject", f"{LAKE}-2/events/demo_testing/a.json"),
        ("consumer", "s3:PutBucketPolicy", LAKE),
        ("consumer", "glue:GetTable", f"{GLUE}:table/lakefeed/demo_testing"),
        ("analytics", "s3:PutObject", f"{LAKE}/events/demo_testing/a.json"),
        ("analytics", "s3:GetObject", f"{LAKE}/dead-letters/demo_testing/a.json"),
        ("analytics", "glue:UpdateCrawler", f"{GLUE}:crawler/lakefeed"),
        ("analytics", "glue:StartCrawler", f"{GLUE}:crawler/another"),
        ("analytics", "glue:GetTable", f"{GLUE}:table/another/demo_testing"),
        ("analytics", "athena:StartQueryExecution", f"arn:aws:athena:{REGION}:{ACCOUNT}:workgroup/primary"),
        ("analytics", "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/lakefeed-crawler"),
        # Consumers of one layout cannot store in the other.
        ("consumer", "s3:PutObject", f"{LAKE}/batches/demo_testing/a.json.gz"),
        ("consumer-batches", "s3:PutObject", f"{LAKE}/events/demo_testing/a.json"),
        ("consumer-batches", "s3:DeleteObject", f"{LAKE}/batches/demo_testing/a.json.gz"),
        ("analytics", "s3:PutObject", f"{LAKE}/tables/demo_testing/a.parquet"),
        ("compactor", "s3:PutObject", f"{LAKE}/batches/demo_testing/a.json.gz"),
        ("compactor", "s3:DeleteObject", f"{LAKE}/tables/demo_testing/a.parquet"),
        ("compactor", "glue:DeleteTable", f"{GLUE}:table/lakefeed/demo_testing_iceberg"),
        ("compactor", "athena:StartQueryExecution", f"arn:aws:athena:{REGION}:{ACCOUNT}:workgroup/lakefeed"),
        ("maintain", "s3:GetObject", f"{LAKE}/events/demo_testing/a.json"),
        ("maintain", "s3:DeleteObject", f"{LAKE}/events/demo_testing/a.json"),
        ("maintain", "glue:CreateTable", f"{GLUE}:table/lakefeed/demo_testing_iceberg"),
        ("crawler", "s3:PutObject", f"{LAKE}/events/demo_testing/a.json"),
        ("crawler", "s3:GetObject", f"{LAKE}/dead-letters/demo_testing/a.json"),
        ("crawler", "glue:DeleteTable", f"{GLUE}:table/lakefeed/demo_testing"),
    ],
)
def test_what_a_role_may_not(role: str, action: str, resource: str, policies: dict[str, Policy]) -> None:
    assert not giving(policies[role], Right(action, resource))
