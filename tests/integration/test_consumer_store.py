"""The contract of `ObjectStore`, kept by the store in memory and by a real S3 server alike."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

import pytest

from lakefeed_common.settings import load
from lakefeed_consumer.s3 import S3ObjectStore
from lakefeed_consumer.settings import ConsumerSettings
from lakefeed_consumer.store import (
    ObjectExistsError,
    ObjectStore,
    StoreRefusedError,
    StoreUnavailableError,
)
from tests.services import free_port
from tests.unit.consumer.memory_store import MemoryStore


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    if request.param == "memory":
        return MemoryStore()
    return S3ObjectStore(load(ConsumerSettings, {"bucket": request.getfixturevalue("bucket")}))


def test_an_object_is_created_and_read_back(store: ObjectStore) -> None:
    async def scenario() -> None:
        await store.check()
        for body in (b"{}", b"", '{"é": "\\u0000"}'.encode(), bytes(range(256)) * 4096):
            key = f"events/t/dt=2026-01-01/{uuid.uuid4()}.json"
            assert await store.read(key) is None
            await store.create(key, body)
            assert await store.read(key) == body

    asyncio.run(scenario())


def test_a_key_is_created_once_and_never_replaced(store: ObjectStore) -> None:
    async def scenario() -> None:
        await store.create("events/a.json", b"first")
        for body in (b"first", b"second"):
            with pytest.raises(ObjectExistsError):
                await store.create("events/a.json", body)
        assert await store.read("events/a.json") == b"first"

    asyncio.run(scenario())


def test_of_concurrent_creations_one_wins(store: ObjectStore) -> None:
    async def scenario() -> None:
        bodies = [str(n).encode() for n in range(16)]
        ends = await asyncio.gather(
            *(store.create("events/b.json", body) for body in bodies), return_exceptions=True
        )
        winners = [body for body, end in zip(bodies, ends, strict=True) if end is None]
        assert len(winners) == 1
        assert await store.read("events/b.json") == winners[0]

    asyncio.run(scenario())


def test_keys_come_in_order_under_a_prefix_and_behind_a_key(store: ObjectStore) -> None:
    async def scenario() -> None:
        names = [f"dead/t/dt=2026-01-0{n % 3 + 1}/00000-{n:020d}.json" for n in range(120)]
        marks = [f"{name}.replayed" for name in names[::7]]
        for key in (*names, *marks, "dead/t2/a.json", "events/t/b.json"):
            await store.create(key, b"{}")
        assert [key async for key in store.keys("dead/t")] == sorted([*names, *marks])
        second = [key async for key in store.keys("dead/t", after="dead/t/dt=2026-01-02")]
        assert second == sorted(key for key in [*names, *marks] if "dt=2026-01-01" not in key)
        assert len([key async for key in store.keys("dead")]) == len(names) + len(marks) + 1
        assert [key async for key in store.keys("dead/nobody")] == []

    asyncio.run(scenario())


def complaint(call: Callable[[ObjectStore], object], **options: object) -> Exception:
    async def scenario() -> None:
        await call(S3ObjectStore(load(ConsumerSettings, options)))  # type: ignore[misc]

    with pytest.raises((StoreRefusedError, StoreUnavailableError)) as caught:
        asyncio.run(scenario())
    return caught.value


CALLS = [
    pytest.param(lambda store: store.check(), id="check"),
    pytest.param(lambda store: store.create("k", b"{}"), id="create"),
    pytest.param(lambda store: store.read("k"), id="read"),
    pytest.param(lambda store: anext(store.keys("k")), id="keys"),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_missing_bucket_is_refused_and_named(aws: str, call: Callable[[ObjectStore], object]) -> None:
    error = complaint(call, bucket="nobody-made-this")
    assert isinstance(error, StoreRefusedError)
    assert "bucket nobody-made-this" in str(error)
    assert "LAKEFEED_BUCKET" in str(error)


@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_is_away_is_unavailable(
    aws: str, monkeypatch: pytest.MonkeyPatch, call: Callable[[ObjectStore], object]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    error = complaint(call)
    assert isinstance(error, StoreUnavailableError)
    assert error.cause == "connection"
    assert "Connection refused" in str(error)


def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreRefusedError, match="AWS_ACCESS_KEY_ID"):
        S3ObjectStore(load(ConsumerSettings))
