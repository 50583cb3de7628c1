"""The pipeline on a cluster: published by Jobs, asked through the service, counted whatever happens there."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from k8s.cluster import ROOT, Deployment, build
from monitoring.check_queries import empty
from tests.helpers.analytics.api import answer, count_once, tables
from tests.helpers.waiting import wait_for
from tests.k8s.conftest import SECOND, api_of, s3_of

TOPIC = "demo_testing"
BUCKET = "lakefeed"
SAMPLE = (ROOT / "data" / "prices.csv").read_text().splitlines()
SAMPLE_ROWS = len(SAMPLE) - 1

# Rows per second: 1,500 rows take longer than anything that happens meanwhile.
_SLOW_RATE = 5

Position = tuple[int, int]

# Runs in a pod: every record of the topic, a JSON object a line.
_READ_TOPIC = """
import base64, json
from confluent_kafka import Consumer, TopicPartition
consumer = Consumer({"bootstrap.servers": "kafka:29092", "group.id": "reader", "enable.auto.commit": False})
partitions = list(consumer.list_topics(TOPIC, timeout=20).topics[TOPIC].partitions)
left = sum(consumer.get_watermark_offsets(TopicPartition(TOPIC, each))[1] for each in partitions)
consumer.assign([TopicPartition(TOPIC, each, 0) for each in partitions])
while left:
    for message in consumer.consume(1000, timeout=10):
        assert message.error() is None, message.error()
        headers = dict(message.headers())
        print(json.dumps([message.partition(), message.offset(), headers["source"].decode(),
                          int(headers["row"]), base64.b64encode(message.value()).decode()]))
        left -= 1
"""


@dataclass(frozen=True)
class Record:
    """A record of the topic: what it holds, and which row of which file it was."""

    source: str
    row: int
    value: bytes


def topic_of(pipeline: Deployment) -> dict[Position, Record]:
    program = f"TOPIC = {TOPIC!r}\n{_READ_TOPIC}"
    output = pipeline.kubectl("exec", "deployment/producer", "--", "python3", "-c", program)
    records = {}
    for partition, offset, source, row, value in map(json.loads, output.splitlines()):
        records[partition, offset] = Record(source, row, base64.b64decode(value))
    return records


def stored(pipeline: Deployment, prefix: str = f"events/{TOPIC}/") -> dict[Position, str]:
    """Keys in the bucket by partition and offset; each position has one."""
    keys = {}
    with s3_of(pipeline) as s3:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
            for entry in page.get("Contents", []):
                partition, offset = entry["Key"].rsplit("/", 1)[1].removesuffix(".json").split("-")
                assert (int(partition), int(offset)) not in keys, entry["Key"]
                keys[int(partition), int(offset)] = entry["Key"]
    return keys


def wait_all_stored(pipeline: Deployment, rows: dict[str, int]) -> None:
    """Wait until each record has its object; each row of each file must be one record.

    Args:
        rows: data rows by file.
    """
    records = topic_of(pipeline)
    found = sorted((each.source, each.row) for each in records.values())
    for source, count in rows.items():
        assert [row for name, row in found if name == source] == list(range(1, count + 1)), source
    wait_for(lambda: len(stored(pipeline)) >= len(records), 240, pipeline.state, every=2)
    keys = stored(pipeline)
    assert keys.keys() == records.keys()
    assert stored(pipeline, "dead-letters/") == {}
    print(f"{len(records)} records, {len(keys)} objects, no dead letter")


def wait_committed(pipeline: Deployment, count: int) -> None:
    """Wait until the group has committed as many events."""
    tool = ["/opt/kafka/bin/kafka-consumer-groups.sh", "--bootstrap-server", "kafka:29092", "--describe"]

    def committed() -> int:
        lines = pipeline.kubectl("exec", "statefulset/kafka", "--", *tool, "--group", "lakefeed-consumer")
        rows = [line.split() for line in lines.splitlines() if TOPIC in line.split()]
        return sum(int(row[3]) for row in rows)

    wait_for(lambda: committed() == count, 120, pipeline.state, every=2)


def publish(pipeline: Deployment, name: str, rows: int) -> None:
    """Publish rows from S3 by a Job, keys over all partitions."""
    put_csv(pipeline, name, rows)
    pipeline.start_job(f"publish-{name}", *arguments(name))
    print(pipeline.wait_job(f"publish-{name}").strip().splitlines()[-1])


@contextmanager
def publishing(pipeline: Deployment, name: str, rows: int) -> Iterator[None]:
    """Publish rows from S3 while something happens: slowly by one Job, then what is left by another.

    However long it takes, rows are published all the time; and the second Job has to find out which are left.
    """
    put_csv(pipeline, name, rows)
    slow = f"publish-{name}"
    before = len(stored(pipeline))
    pipeline.start_job(slow, *arguments(name), "--rate", str(_SLOW_RATE))
    wait_for(lambda: len(stored(pipeline)) > before + 2 * _SLOW_RATE, 120, pipeline.state, every=0.5)
    yield
    assert pipeline.json("get", "job", slow)["status"].get("active"), "all was published before it happened"
    pipeline.kubectl("delete", "job", slow, "--cascade=foreground")
    pipeline.start_job(f"{slow}-rest", *arguments(name))
    print(pipeline.wait_job(f"{slow}-rest").strip().splitlines()[-1])


def put_csv(pipeline: Deployment, name: str, rows: int) -> None:
    lines = [SAMPLE[0], *(SAMPLE[1 + number % SAMPLE_ROWS] for number in range(rows))]
    with s3_of(pipeline) as s3:
        s3.put_object(Bucket=BUCKET, Key=f"incoming/{name}.csv", Body="\n".join(lines).encode())


def arguments(name: str) -> tuple[str, ...]:
    return f"s3://{BUCKET}/incoming/{name}.csv", "--key", "Date"


def pods(pipeline: Deployment, name: str, *, ready: bool = False) -> list[str]:
    """Those that are not being deleted; all, or those that are ready."""
    found = pipeline.json("get", "pods", "--selector", f"app.kubernetes.io/name={name}")["items"]
    return [
        pod["metadata"]["name"]
        for pod in found
        if "deletionTimestamp" not in pod["metadata"] and (not ready or is_ready(pod))
    ]


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True"


def count_answered(pipeline: Deployment) -> int:
    with api_of(pipeline) as api:
        if TOPIC not in tables(api):
            return 0
        return int(answer(api, f'SELECT count(*) AS events FROM "{TOPIC}"')[0]["events"])  # noqa: S608


# ---- in this order: each continues with what the ones before have published ---------------------------


def test_every_pod_is_ready_and_restricted(pipeline: Deployment) -> None:
    found = pipeline.json("get", "pods")["items"]
    assert {"consumer", "analytics", "producer", "kafka", "zookeeper", "aws"} <= {
        pod["metadata"]["labels"]["app.kubernetes.io/name"] for pod in found
    }
    for pod in found:
        assert is_ready(pod), pod["metadata"]["name"]
        assert not any("kube-api-access" in volume["name"] for volume in pod["spec"]["volumes"])
    labels = json.loads(pipeline.kubectl("get", "namespace", pipeline.namespace, "--output", "json"))
    assert labels["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    print(pipeline.kubectl("get", "pods", "--output", "wide"))


def test_the_sample_is_published_by_a_job_once_and_answered_by_the_service(pipeline: Deployment) -> None:
    pipeline.start_job("sample")
    assert f"{SAMPLE_ROWS:,} events delivered" in pipeline.wait_job("sample")
    pipeline.start_job("again")
    assert "already published" in pipeline.wait_job("again")
    wait_all_stored(pipeline, {"prices.csv": SAMPLE_ROWS})
    wait_for(lambda: count_answered(pipeline) == SAMPLE_ROWS, 180, pipeline.state, every=2)


def test_a_csv_in_the_producers_volume_is_published(pipeline: Deployment) -> None:
    text = "\n".join(SAMPLE[:41]) + "\n"
    write = ["sh", "-c", "cat >/data/.watched.csv && mv /data/.watched.csv /data/watched.csv"]
    pipeline.kubectl("exec", "--stdin", "deployment/producer", "--", *write, given=text)
    wait_for(lambda: len(stored(pipeline)) >= SAMPLE_ROWS + 40, 60, pipeline.state, every=1)
    wait_all_stored(pipeline, {"prices.csv": SAMPLE_ROWS, "watched.csv": 40})


def test_three_consumers_share_three_partitions(pipeline: Deployment) -> None:
    pipeline.kubectl("scale", "deployment/consumer", "--replicas", "3")
    pipeline.wait_rolled_out()
    publish(pipeline, "scaled", 600)
    wait_all_stored(pipeline, {"scaled.csv": 600})
    fetch = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8002/metrics').read().decode())"
    pages = [
        pipeline.kubectl("exec", pod, "--", "python3", "-c", fetch) for pod in pods(pipeline, "consumer")
    ]
    taken = [float(page.split("\nlakefeed_consumer_events_taken_total ")[1].split()[0]) for page in pages]
    print(f"taken by each consumer: {taken}")
    assert len([each for each in taken if each]) == 3


def test_deleted_and_killed_pods_lose_nothing(pipeline: Deployment) -> None:
    with publishing(pipeline, "deleted", 1500):
        first, second, *_ = pods(pipeline, "consumer")
        pipeline.kubectl("delete", "pod", first, "--wait=false")
        pipeline.kubectl("delete", "pod", second, "--grace-period=0", "--force")
        pipeline.kubectl("delete", "pod", "--selector", "app.kubernetes.io/name in (analytics, producer)")
    pipeline.wait_rolled_out()
    wait_all_stored(pipeline, {"deleted.csv": 1500})


def test_a_new_version_rolls_out_and_loses_nothing(pipeline: Deployment) -> None:
    build(SECOND)
    # A new image and a changed setting at once; the overlay also takes back the three consumers.
    pipeline.prepare(SECOND, LAKEFEED_COMMIT_INTERVAL_SECONDS="0.5")
    before = set(pods(pipeline, "consumer"))
    with publishing(pipeline, "rolled", 1500):
        pipeline.apply()
        wait_for(lambda: set(pods(pipeline, "consumer", ready=True)) - before, 120, pipeline.state, every=0.5)
        pipeline.wait_rolled_out()
    wait_all_stored(pipeline, {"rolled.csv": 1500})
    assert not before & set(pods(pipeline, "consumer"))
    for name in ("consumer", "analytics", "producer"):
        spec = pipeline.json("get", "deployment", name)["spec"]["template"]["spec"]["containers"][0]
        assert spec["image"] == f"lakefeed-{name}:{SECOND}"
    environment = pipeline.kubectl("exec", "deployment/consumer", "--", "env")
    assert "LAKEFEED_COMMIT_INTERVAL_SECONDS=0.5" in environment


def test_a_restarted_broker_loses_nothing(pipeline: Deployment) -> None:
    with publishing(pipeline, "restarted", 1500):
        pipeline.kubectl("rollout", "restart", "statefulset/kafka")
        pipeline.wait_rolled_out()
    wait_all_stored(pipeline, {"restarted.csv": 1500})


def test_all_that_was_published_is_stored_byte_for_byte_and_counted(pipeline: Deployment) -> None:
    rows = {"prices.csv": SAMPLE_ROWS, "watched.csv": 40, "scaled.csv": 600}
    rows |= {"deleted.csv": 1500, "rolled.csv": 1500, "restarted.csv": 1500}
    wait_all_stored(pipeline, rows)
    records, keys = topic_of(pipeline), stored(pipeline)
    assert len(records) == sum(rows.values())
    began = time.monotonic()
    with s3_of(pipeline) as s3, ThreadPoolExecutor(4) as pool:

        def body(position: Position) -> bytes:
            read: bytes = s3.get_object(Bucket=BUCKET, Key=keys[position])["Body"].read()
            return read

        for position, content in zip(keys, pool.map(body, keys), strict=True):
            assert content == records[position].value, position
    print(f"{len(keys)} objects byte for byte, in {time.monotonic() - began:.0f} s")
    wait_for(lambda: count_answered(pipeline) == sum(rows.values()), 180, pipeline.state, every=2)
    restarts = {
        pod["metadata"]["name"]: status["restartCount"]
        for pod in pipeline.json("get", "pods")["items"]
        for status in pod["status"]["containerStatuses"]
    }
    print(f"restarts: {restarts}")
    assert not any(restarts.values())


def test_batches_and_a_compactor_keep_each_event_once(pipeline: Deployment) -> None:
    before = stored(pipeline)
    pipeline.prepare(SECOND, ("compactor", "batches"), LAKEFEED_BATCH_LINGER_SECONDS="2")
    pipeline.apply()
    pipeline.wait_rolled_out()
    publish(pipeline, "batched", 600)
    count = len(before) + 600
    assert len(topic_of(pipeline)) == count
    wait_committed(pipeline, count)
    # It compacts at its start, and then every five minutes.
    pipeline.kubectl("rollout", "restart", "deployment/compactor")
    pipeline.wait_rolled_out()

    def compacted() -> bool:
        with api_of(pipeline) as api:
            found = count_once(api, f"{TOPIC}_iceberg")
        assert found <= count
        return found == count

    wait_for(compacted, 180, pipeline.state, every=2)
    assert stored(pipeline) == before
    assert stored(pipeline, "dead-letters/") == {}


def test_prometheus_sees_every_service_and_answers_the_dashboard(pipeline: Deployment) -> None:
    services = {"producer", "consumer", "analytics", "kafka", "prometheus"}
    with pipeline.forwarded("prometheus", 9090) as address:
        prometheus = f"http://{address}"

        def seen() -> bool:
            answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": "up == 1"}).raise_for_status()
            return {each["metric"]["job"] for each in answer.json()["data"]["result"]} >= services

        wait_for(seen, 60, pipeline.state, every=1)
        # One scrape that comes late leaves a target's series out for a while.
        wait_for(lambda: not empty(prometheus), 90, lambda: str(empty(prometheus)), every=3)
    print(pipeline.usage())


pytestmark = pytest.mark.timeout(900)
