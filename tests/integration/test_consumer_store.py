"""The contract of `ObjectStore`, for the store in memory and for each client with real S3 servers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from itertools import product

import pytest

from lakefeed_common.settings import load
from lakefeed_consumer.object_store import (
    ObjectExistsError,
    ObjectStore,
    StoreRefusedError,
    StoreUnavailableError,
)
from lakefeed_consumer.s3.client import open_store
from lakefeed_consumer.s3.fast.store import FastObjectStore
from lakefeed_consumer.settings import S3_CLIENTS, ConsumerSettings
from tests.helpers.consuming import ReadsOnly, run
from tests.helpers.memory_store import MemoryStore
from tests.helpers.seaweed import SeaweedS3, access
from tests.helpers.services import free_port


@pytest.fixture
def seaweed_bucket(seaweed: SeaweedS3, topic: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket on the server that checks signatures."""
    for name, value in access(seaweed.endpoint_url).items():
        monkeypatch.setenv(name, value)
    seaweed.client().create_bucket(Bucket=topic)
    return topic


MEMORY_AND_MINISTACK = ["memory", *product(S3_CLIENTS, ["bucket"])]


@pytest.fixture(params=[*MEMORY_AND_MINISTACK, *product(S3_CLIENTS, ["seaweed_bucket"])], ids=str)
def store(request: pytest.FixtureRequest) -> ObjectStore:
    if request.param == "memory":
        return MemoryStore()
    client, bucket = request.param
    return open_store(
        load(ConsumerSettings, {"s3_client": client, "bucket": request.getfixturevalue(bucket)})
    )


def test_an_object_is_created_and_read_back(store: ObjectStore) -> None:
    async def scenario() -> None:
        await store.check()
        for body in (b"{}", b"", '{"é": "\\u0000"}'.encode(), bytes(range(256)) * 4096):
            key = f"events/t/dt=2026-01-01/{uuid.uuid4()}.json"
            assert await store.read(key) is None
            await store.create(key, body)
            assert await store.read(key) == body

    run(store, scenario)


def test_a_key_is_created_once_and_never_replaced(store: ObjectStore) -> None:
    async def scenario() -> None:
        await store.create("events/a.json", b"first")
        for body in (b"first", b"second"):
            with pytest.raises(ObjectExistsError):
                await store.create("events/a.json", body)
        assert await store.read("events/a.json") == b"first"

    run(store, scenario)


def test_of_concurrent_creations_one_wins(store: ObjectStore) -> None:
    async def scenario() -> None:
        bodies = [str(n).encode() for n in range(16)]
        ends = await asyncio.gather(
            *(store.create("events/b.json", body) for body in bodies), return_exceptions=True
        )
        winners = [body for body, end in zip(bodies, ends, strict=True) if end is None]
        assert len(winners) == 1
        assert await store.read("events/b.json") == winners[0]

    run(store, scenario)


# SeaweedFS skips the whole folder if the key to start after is the name of a folder.
@pytest.mark.parametrize("store", MEMORY_AND_MINISTACK, indirect=True, ids=str)
def test_keys_are_listed_in_order_under_a_prefix_and_after_a_key(store: ObjectStore) -> None:
    async def scenario() -> None:
        names = [f"dead/t/dt=2026-01-0{n % 3 + 1}/00000-{n:020d}.json" for n in range(120)]
        marks = [f"{name}.replayed" for name in names[::7]]
        for key in (*names, *marks, "dead/t2/a.json", "events/t/b.json"):
            await store.create(key, b"{}")
        assert [key async for key in store.keys("dead/t")] == sorted([*names, *marks])
        second = [key async for key in store.keys("dead/t", after="dead/t/dt=2026-01-02")]
        assert second == sorted(key for key in [*names, *marks] if "dt=2026-01-01" not in key)
        assert len([key async for key in store.keys("dead")]) == len(names) + len(marks) + 1
        assert [key async for key in store.keys("dead/missing")] == []

    run(store, scenario)


@pytest.mark.parametrize("server", ["bucket", "seaweed_bucket"])
def test_the_fast_client_puts_any_key_and_body_without_obstore(
    server: str, request: pytest.FixtureRequest
) -> None:
    settings = load(ConsumerSettings, {"bucket": request.getfixturevalue(server)})
    store = FastObjectStore(settings, ReadsOnly(settings))
    names = ["a b", "é!*'()~x", "a+b&c?d#e", "a%20b", "=@:,;$", "üñ中", "{}[]|<>^`"]
    objects = {f"events/{name}/{n}-{name}.json": name.encode() * n for n, name in enumerate(names)}
    objects |= {f"events/t/dt=2026-01-01/{n:020d}.json": str(n).encode() for n in range(200)}
    objects["events/large"] = bytes(range(256)) * 4096

    async def scenario() -> None:
        await asyncio.gather(*(store.create(key, body) for key, body in objects.items()))
        for key, body in objects.items():
            assert await store.read(key) == body, key
        with pytest.raises(StoreRefusedError, match="left to obstore"):
            await store.create("events/large", b"another")

    run(store, scenario)


def test_a_wrong_signature_is_an_error(seaweed_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    store = open_store(load(ConsumerSettings, {"bucket": seaweed_bucket}))

    async def scenario() -> None:
        with pytest.raises(StoreRefusedError, match="SignatureDoesNotMatch"):
            await store.create("events/a.json", b"{}")

    run(store, scenario)


def complaint(client: str, call: Callable[[ObjectStore], object], **options: object) -> Exception:
    store = open_store(load(ConsumerSettings, {"s3_client": client, **options}))

    async def scenario() -> None:
        await call(store)  # type: ignore[misc]

    with pytest.raises((StoreRefusedError, StoreUnavailableError)) as caught:
        run(store, scenario)
    return caught.value


CALLS = [
    pytest.param(lambda store: store.check(), id="check"),
    pytest.param(lambda store: store.create("k", b"{}"), id="create"),
    pytest.param(lambda store: store.read("k"), id="read"),
    pytest.param(lambda store: anext(store.keys("k")), id="keys"),
]


@pytest.mark.parametrize("client", S3_CLIENTS)
@pytest.mark.parametrize("call", CALLS)
def test_a_missing_bucket_is_refused_and_named(
    aws: str, client: str, call: Callable[[ObjectStore], object]
) -> None:
    error = complaint(client, call, bucket="missing-bucket")
    assert isinstance(error, StoreRefusedError)
    assert "bucket missing-bucket" in str(error)
    assert "LAKEFEED_BUCKET" in str(error)


@pytest.mark.parametrize("client", S3_CLIENTS)
@pytest.mark.parametrize("call", CALLS)
def test_an_unreachable_server_is_unavailable(
    aws: str, monkeypatch: pytest.MonkeyPatch, client: str, call: Callable[[ObjectStore], object]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    error = complaint(client, call)
    assert isinstance(error, StoreUnavailableError)
    assert error.cause == "connection"
    assert "Connection refused" in str(error)


def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreRefusedError, match="AWS_ACCESS_KEY_ID"):
        open_store(load(ConsumerSettings))
