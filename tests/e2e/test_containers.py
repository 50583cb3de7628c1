"""The pipeline in containers: from the mounted CSV to an answer, and through scaling, kills and restarts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitoring.check_queries import empty
from tests.e2e.conftest import compose, containers, docker, state, wait_healthy
from tests.e2e.pipeline import (
    BUCKET,
    TOPIC,
    publishing,
    publishing_slowly,
    read_topic,
    records,
    stored,
    wait_all_stored,
    write_rows,
)
from tests.helpers.analytics.api import answer, tables
from tests.helpers.compose import ONE_SHOT
from tests.helpers.waiting import wait_for

SAMPLE_ROWS = 2212
OWN = ("producer", "consumer", "analytics", "aws")

pytestmark = pytest.mark.usefixtures("stack")


def test_everything_is_healthy() -> None:
    for container in containers():
        if container["Service"] in ONE_SHOT:
            assert container["State"] == "exited"
            assert container["ExitCode"] == 0
        else:
            assert container["Health"] == "healthy", container


def test_the_mounted_csv_is_stored_byte_for_byte(kafka: str, s3: Any) -> None:
    wait_for(lambda: len(stored(s3)) >= SAMPLE_ROWS, 180, lambda: compose("logs", "--tail", "40"), every=1)
    sent = wait_all_stored(kafka, s3)
    rows = [dict(message.headers()) for message in read_topic(kafka)]
    numbers = sorted(int(headers["row"]) for headers in rows if headers["source"] == b"prices.csv")
    assert numbers == list(range(1, SAMPLE_ROWS + 1))
    for position, key in stored(s3).items():
        assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == sent[position]


def test_the_objects_are_crawled_and_queried_through_the_api(api: httpx.Client, s3: Any) -> None:
    wait_for(lambda: TOPIC in tables(api), 120, "the table", every=1)
    count = answer(api, f'SELECT count(*) AS events FROM "{TOPIC}"')[0]["events"]  # noqa: S608
    assert count == len(stored(s3))
    command = ["lakefeed-analytics", "query", "--name", "latest_price", "--format", "json"]
    newest = compose("exec", "-T", "analytics", *command)
    assert {row["ticker"] for row in json.loads(newest)} == {"AAPL", "FB", "GOOG", "IBM", "MSFT"}


def test_every_dashboard_query_and_rule_finds_data(prometheus: str, api: httpx.Client) -> None:
    missing: list[str] = []

    def complete() -> bool:
        missing[:] = [str(query) for query in empty(prometheus)]
        return not missing

    # The dashboard counts queries by how they were asked.
    assert answer(api, f'SELECT count(*) AS events FROM "{TOPIC}"')  # noqa: S608
    # Rates want two scrapes of everything.
    wait_for(complete, 90, lambda: "\n".join(missing), every=3)


def test_only_the_loopback_is_published() -> None:
    for container in containers():
        for published in container["Publishers"] or []:
            assert published["URL"] in ("127.0.0.1", ""), container["Name"]


def test_a_misspelt_data_folder_is_an_error_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "misspelt"
    monkeypatch.setenv("LAKEFEED_DATA", str(folder))
    with pytest.raises(AssertionError, match="bind source path does not exist"):
        compose("run", "--rm", "--no-deps", "producer", "watch", "--help")
    assert not folder.exists()


def test_on_a_real_account_nothing_of_the_local_aws_is_left() -> None:
    given = {
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "LAKEFEED_BUCKET": "bucket",
        "LAKEFEED_WORKGROUP": "another",
        "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": "broker.example:9093",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        files = ["-f", "docker-compose.yml", "-f", "docker-compose.aws.yml"]
        services = json.loads(compose(*files, "config", "--format", "json"))["services"]
    assert not {"aws", "init", "kafka", "zookeeper"} & services.keys()
    for name in ("producer", "consumer", "analytics"):
        assert "AWS_ENDPOINT_URL" not in services[name]["environment"]
    for name in ("producer", "consumer"):
        assert services[name]["environment"]["LAKEFEED_KAFKA_BOOTSTRAP_SERVERS"] == "broker.example:9093"
    for name in ("consumer", "analytics"):
        assert services[name]["environment"]["LAKEFEED_BUCKET"] == "bucket"
    assert services["analytics"]["environment"]["LAKEFEED_WORKGROUP"] == "another"


def test_kafkas_own_tools_run_in_its_container() -> None:
    tool = ["/opt/kafka/bin/kafka-topics.sh", "--bootstrap-server", "kafka:29092", "--list"]
    assert TOPIC in compose("exec", "-T", "kafka", *tool).split()


def test_containers_are_confined() -> None:
    for entry in containers():
        inspected = json.loads(docker("inspect", entry["ID"]))[0]
        host = inspected["HostConfig"]
        own = entry["Service"] in (*OWN, *ONE_SHOT)
        assert (
            inspected["Config"]["User"] == "10001:10001"
            if own
            else inspected["Config"]["User"] not in ("", "0", "root")
        )
        assert host["ReadonlyRootfs"], entry["Service"]
        assert host["CapDrop"] == ["ALL"], entry["Service"]
        assert "no-new-privileges:true" in host["SecurityOpt"], entry["Service"]
        assert host["Memory"] > 0
        assert host["LogConfig"]["Config"]["max-size"]
        assert entry["Service"] in ONE_SHOT or host["RestartPolicy"]["Name"] == "unless-stopped"


@pytest.fixture(scope="module")
def scaled() -> Iterator[None]:
    compose("up", "--detach", "--no-recreate", "--scale", "consumer=3", "consumer")
    wait_healthy("consumer", 3)
    yield
    compose("up", "--detach", "--no-recreate", "--scale", "consumer=1", "consumer")
    wait_healthy("consumer", 1)


def taken_by_each() -> list[float]:
    """Events that each consumer container has taken."""
    fetch = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8002/metrics').read().decode())"
    running = [
        entry for entry in containers() if entry["Service"] == "consumer" and entry["State"] == "running"
    ]
    pages = [docker("exec", entry["ID"], "python3", "-c", fetch) for entry in running]
    return [float(page.split("\nlakefeed_consumer_events_taken_total ")[1].split()[0]) for page in pages]


@pytest.mark.usefixtures("scaled")
def test_three_consumers_share_the_partitions_and_lose_nothing(kafka: str, s3: Any, tmp_path: Path) -> None:
    # Keys spread the rows over all partitions.
    with publishing(write_rows(tmp_path / "more.csv", 1500), "--key", "Date"):
        pass
    wait_all_stored(kafka, s3)
    assert len([taken for taken in taken_by_each() if taken]) == 3


def test_a_killed_consumer_loses_nothing(kafka: str, s3: Any, tmp_path: Path) -> None:
    before = len(stored(s3))
    with publishing_slowly(write_rows(tmp_path / "killed.csv", 3000)) as sending:
        wait_for(lambda: len(stored(s3)) > before + 200, 120, "the middle", every=0.2)
        victim = next(entry["ID"] for entry in containers() if entry["Service"] == "consumer")
        docker("kill", victim)
        assert sending.poll() is None, "the kill came too late to prove anything"
        compose("up", "--detach", "--no-recreate", "--wait", "consumer")
    wait_all_stored(kafka, s3)


def test_a_restarted_broker_loses_nothing(kafka: str, s3: Any, tmp_path: Path) -> None:
    before = len(stored(s3))
    with publishing_slowly(write_rows(tmp_path / "restart.csv", 3000)) as sending:
        wait_for(lambda: len(stored(s3)) > before + 200, 120, "the middle", every=0.2)
        compose("restart", "kafka")
        assert sending.poll() is None, "the restart came too late to prove anything"
        wait_healthy("kafka", 1)
    sent = wait_all_stored(kafka, s3)
    assert len(sent) >= before + 3000
    wait_healthy("consumer", 1)
    wait_healthy("producer", 1)


def test_a_new_csv_in_the_folder_is_published_once(kafka: str, s3: Any, data_folder: Path) -> None:
    before = len(records(kafka))
    write_rows(data_folder / "late.csv", 40).chmod(0o644)
    wait_for(lambda: len(records(kafka)) >= before + 40, 60, state, every=1)
    compose("restart", "producer")
    wait_healthy("producer", 1)
    assert len(wait_all_stored(kafka, s3)) == before + 40
