"""The consumer's command and its store while a real S3 server fails in every known way."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lakefeed_common.settings import load
from lakefeed_consumer.object_store import (
    ObjectExistsError,
    ObjectStore,
    StoreRefusedError,
    StoreUnavailableError,
)
from lakefeed_consumer.s3.client import open_store
from lakefeed_consumer.s3.obstore import ObstoreObjectStore
from lakefeed_consumer.settings import S3_CLIENTS, ConsumerSettings
from tests.chaos.run import read_bucket
from tests.helpers.consuming import (
    by_position,
    committed,
    ends,
    events,
    make_topic,
    publish,
    run,
    wait_stored,
    wait_unready,
)
from tests.helpers.s3_proxy import KINDS, Faults, S3Proxy
from tests.helpers.seaweed import ACCESS_KEY, RENEWED_KEY, SECRET_KEY, SeaweedS3, access
from tests.helpers.services import Service, repeated_reasons
from tests.helpers.waiting import wait_for

STORED = "lakefeed_consumer_objects_total"
RETRIES = "lakefeed_consumer_put_retries_total"
MEMORY = 80 << 20
TAKEN = "lakefeed_consumer_events_taken_total"


@pytest.fixture(params=S3_CLIENTS)
def store(
    request: pytest.FixtureRequest,
    seaweed: SeaweedS3,
    proxy: S3Proxy,
    topic: str,
    monkeypatch: pytest.MonkeyPatch,
) -> ObjectStore:
    for name, value in access(proxy.endpoint_url).items():
        monkeypatch.setenv(name, value)
    seaweed.client().create_bucket(Bucket=topic)
    options = {"bucket": topic, "put_timeout_seconds": 2, "s3_client": request.param}
    return open_store(load(ConsumerSettings, options))


@pytest.mark.parametrize("kind", ["lost_answer", "cut_answer", "late_answer"])
def test_a_put_whose_response_was_lost_is_found_with_its_body(
    store: ObjectStore, proxy: S3Proxy, kind: str
) -> None:
    async def scenario() -> None:
        proxy.set(Faults({kind: 1.0}, seconds=6))
        with pytest.raises(StoreUnavailableError) as caught:
            await store.create("events/a.json", b'{"a":1}')
        assert caught.value.cause == ("timeout" if kind == "late_answer" else "connection")
        proxy.set(Faults())
        with pytest.raises(ObjectExistsError):
            await store.create("events/a.json", b'{"a":1}')
        assert await store.read("events/a.json") == b'{"a":1}'

    run(store, scenario)


@pytest.mark.parametrize("kind", ["cut_answer", "lost_answer", "reset", "silence"])
def test_an_interrupted_read_returns_no_body(store: ObjectStore, proxy: S3Proxy, kind: str) -> None:
    async def scenario() -> None:
        await store.create("events/a.json", b'{"a":1}' * 100)
        proxy.set(Faults({kind: 1.0}))
        with pytest.raises(StoreUnavailableError) as caught:
            await store.read("events/a.json")
        assert caught.value.cause == ("timeout" if kind == "silence" else "connection")
        proxy.set(Faults())
        assert await store.read("events/a.json") == b'{"a":1}' * 100

    run(store, scenario)


def test_a_request_that_arrives_after_its_retry_replaces_nothing(
    store: ObjectStore, proxy: S3Proxy, seaweed: SeaweedS3, topic: str
) -> None:
    async def scenario() -> None:
        # Later than the timeouts of both the fast client and obstore.
        proxy.set(Faults({"late_request": 1.0}, seconds=6))
        with pytest.raises(StoreUnavailableError):
            await store.create("events/a.json", b"late")
        proxy.set(Faults())
        await store.create("events/a.json", b"first")

    run(store, scenario)
    first = seaweed.client().head_object(Bucket=topic, Key="events/a.json")
    # The fast client's, and after it obstore's.
    wait_for(lambda: proxy.counts()["came_late"] == proxy.counts()["late_request"], 20, "all are answered")
    assert seaweed.client().head_object(Bucket=topic, Key="events/a.json")["ETag"] == first["ETag"]
    assert asyncio.run(read_bucket(seaweed, topic)) == {"events/a.json": b"first"}


def test_each_event_is_stored_once_while_requests_fail_in_every_way(
    kafka: str, topic: str, proxied: dict[str, str], proxy: S3Proxy, seaweed: SeaweedS3, tmp_path: Path
) -> None:
    make_topic(kafka, topic, partitions=3)
    kinds = [kind for kind in KINDS if kind != "outage"]
    proxied["LAKEFEED_PUT_TIMEOUT_SECONDS"] = "1"
    proxied["LAKEFEED_RETRY_CAP_SECONDS"] = "0.2"
    proxy.set(Faults(dict.fromkeys(kinds, 0.3 / len(kinds)), seconds=2))
    with Service("consumer", "run", log=tmp_path / "log", **proxied) as consumer:
        held = publish(kafka, topic, events(600))
        wait_stored(consumer, 600, timeout=120)
        assert not [kind for kind in kinds if not proxy.counts()[kind]]
        for cause in ("slow_down", "server_error", "connection", "timeout", "refused"):
            assert consumer.metric("lakefeed_consumer_put_retries_total", cause=cause) > 0, cause
        # Each lost answer is a put that was done: found with the same body.
        assert consumer.metric(STORED, outcome="already_there") > 0
        assert consumer.metric(STORED, outcome="conflict") == 0
        proxy.set(Faults())
        wait_for(lambda: consumer.get("/readyz")[0] == 200, 30, lambda: consumer.log)
        assert consumer.stop() == 0
    assert by_position(asyncio.run(read_bucket(seaweed, topic))) == held
    assert committed(kafka, topic, proxied["LAKEFEED_CONSUMER_GROUP"], 3) == ends(held)


def test_reading_pauses_and_memory_is_bounded_while_s3_is_unavailable(
    kafka: str,
    topic: str,
    proxied: dict[str, str],
    proxy: S3Proxy,
    seaweed: SeaweedS3,
    tmp_path: Path,
) -> None:
    make_topic(kafka, topic)
    proxied |= {"LAKEFEED_PUT_TIMEOUT_SECONDS": "2", "LAKEFEED_PUTS_IN_FLIGHT": "64"}
    # A membership that is lost for lack of CPU would start again, and count its events once more.
    proxied |= {"LAKEFEED_SESSION_TIMEOUT_SECONDS": "60"}
    with Service("consumer", "run", log=tmp_path / "log", **proxied) as consumer:
        held = publish(kafka, topic, events(100))
        wait_stored(consumer, 100)
        before = memory(consumer)
        proxy.set(Faults({"silence": 1.0}))
        # 130 MB, of which a worker that read on would hold most.
        body = "x" * 50_000
        large = [json.dumps({"n": n, "x": body}).encode() for n in range(2600)]
        held |= publish(kafka, topic, large)
        # First it does not answer; then nothing listens.
        for kind in ("silence", "outage"):
            proxy.set(Faults({kind: 1.0}))
            wait_unready(consumer, "bucket", f"bucket {topic} at {proxy.endpoint_url}")
            retries = consumer.metric(RETRIES)
            wait_for(lambda: consumer.metric(RETRIES) > retries + 250, 120, lambda: consumer.log)  # noqa: B023
            # Some puts are cut off and others refused, again and again.
            assert repeated_reasons(consumer.log) == []
            assert consumer.metric(TAKEN) == 100 + 64, consumer.log
            assert consumer.metric("lakefeed_consumer_in_flight_events") == 64
            assert memory(consumer) - before < MEMORY
            assert consumer.get("/healthz")[0] == 200
        proxy.set(Faults())
        wait_stored(consumer, 500)
        wait_for(lambda: consumer.get("/readyz")[0] == 200, 60, lambda: consumer.log)
        assert memory(consumer) - before < MEMORY
    stored = by_position(asyncio.run(read_bucket(seaweed, topic)))
    assert stored.items() <= held.items()
    assert len(stored) >= 500


def memory(service: Service) -> int:
    """Resident memory of its process in bytes."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) << 10


WRONGS = {
    "clock_skew": "answered RequestTimeTooSkewed. Set the clock",
    "access_denied": "refused with AccessDenied",
    "no_such_bucket": "there is no such bucket",
    "internal_error": "answered 500 InternalError",
    "cut_answer": "no answer",
}


def test_readiness_reports_what_is_wrong_with_s3_until_it_recovers(
    kafka: str,
    topic: str,
    proxied: dict[str, str],
    proxy: S3Proxy,
    seaweed: SeaweedS3,
    tmp_path: Path,
) -> None:
    make_topic(kafka, topic)
    with Service("consumer", "run", log=tmp_path / "log", **proxied) as consumer:
        held = publish(kafka, topic, events(50))
        wait_stored(consumer, 50)
        for kind, reason in WRONGS.items():
            proxy.set(Faults({kind: 1.0}))
            held |= publish(kafka, topic, events(50, start=len(held)))
            wait_unready(consumer, "bucket", reason)
            proxy.set(Faults())
            wait_stored(consumer, len(held))
            wait_for(lambda: consumer.get("/readyz")[0] == 200, 30, lambda: consumer.log)
    assert by_position(asyncio.run(read_bucket(seaweed, topic))) == held


def write_keys_file(folder: Path, key: str) -> dict[str, str]:
    """Keys in the file that all AWS programs share, as `aws sso login` and mounted secrets write it."""
    file = folder / "credentials"
    file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {SECRET_KEY}\n")
    return {"AWS_SHARED_CREDENTIALS_FILE": str(file)}


def write_keys_process(folder: Path, key: str) -> dict[str, str]:
    """Keys with a time to expire, from a program of the user's."""
    answer = {
        "Version": 1,
        "AccessKeyId": key,
        "SecretAccessKey": SECRET_KEY,
        "Expiration": (datetime.now(UTC) + timedelta(minutes=5)).isoformat(),
    }
    (folder / "answer.json").write_text(json.dumps(answer))
    config = folder / "config"
    config.write_text(f"[default]\ncredential_process = cat {folder / 'answer.json'}\n")
    return {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none")}


@pytest.mark.parametrize("write_keys", [write_keys_file, write_keys_process])
def test_a_running_consumer_uses_renewed_credentials(
    kafka: str,
    topic: str,
    proxied: dict[str, str],
    proxy: S3Proxy,
    seaweed: SeaweedS3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_keys: Callable[[Path, str], dict[str, str]],
) -> None:
    make_topic(kafka, topic)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
        del proxied[name]
    proxied |= write_keys(tmp_path, ACCESS_KEY)
    with Service("consumer", "run", log=tmp_path / "log", **proxied) as consumer:
        held = publish(kafka, topic, events(50))
        wait_stored(consumer, 50)
        proxy.set(Faults(keys=(RENEWED_KEY,)))
        held |= publish(kafka, topic, events(50, start=50))
        if write_keys is write_keys_file:
            # Nothing renews the keys of a file: it waits, and reports the reason.
            wait_unready(consumer, "bucket", "refused with ExpiredToken")
        write_keys(tmp_path, RENEWED_KEY)
        wait_stored(consumer, 100)
        wait_for(lambda: consumer.get("/readyz")[0] == 200, 30, lambda: consumer.log)
        assert SECRET_KEY not in consumer.log
    assert by_position(asyncio.run(read_bucket(seaweed, topic))) == held


def test_a_failing_credential_process_is_reported_and_retried(
    seaweed: SeaweedS3, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = access(seaweed.endpoint_url) | write_keys_process(tmp_path, ACCESS_KEY)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    seaweed.client().create_bucket(Bucket=topic)

    async def scenario() -> None:
        store = ObstoreObjectStore(load(ConsumerSettings, {"bucket": topic}))
        await store.create("events/a.json", b"{}")
        (tmp_path / "answer.json").unlink()
        with pytest.raises(
            StoreRefusedError,
            match=r"of profile default \(credential_process\) cannot be used: Error when retrieving",
        ):
            await store.create("events/b.json", b"{}")
        write_keys_process(tmp_path, RENEWED_KEY)
        await store.create("events/b.json", b"{}")

    asyncio.run(scenario())
