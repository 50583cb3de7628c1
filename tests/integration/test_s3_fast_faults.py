"""The fast client with servers that do everything wrong: unconfirmed puts are passed on to obstore."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop
from botocore.credentials import ReadOnlyCredentials

from lakefeed_common import aws
from lakefeed_common.settings import load
from lakefeed_consumer.object_store import ObjectStore, StoreUnavailableError
from lakefeed_consumer.s3.client import open_store
from lakefeed_consumer.s3.fast.addresses import Addresses
from lakefeed_consumer.s3.fast.connections import Connections, Server, Timeouts
from lakefeed_consumer.s3.fast.credentials import RefreshedKeys
from lakefeed_consumer.s3.fast.signing import Keys
from lakefeed_consumer.s3.fast.store import FastObjectStore
from lakefeed_consumer.s3.obstore import ObstoreObjectStore
from lakefeed_consumer.settings import ConsumerSettings
from tests.helpers.scripted_s3 import GOOD, Put, Script, ScriptedS3, answer_well, scripted_s3
from tests.helpers.services import free_port

CHUNKED = b'HTTP/1.1 200 OK\r\nETag: "0"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'
CLOSING = GOOD.replace(b"ETag", b"Connection: close\r\nETag")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def store_at(server: ScriptedS3, **options: Any) -> AsyncIterator[ObjectStore]:
    given = {"aws_endpoint_url": server.endpoint_url, "put_timeout_seconds": 20, **options}
    store = open_store(load(ConsumerSettings, given))
    try:
        yield store
    finally:
        await store.close()


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        await asyncio.sleep(0.01)


def sends(*parts: bytes, close: bool = False) -> Script:
    async def script(put: Put) -> None:
        for part in parts:
            put.writer.write(part)
            await put.writer.drain()
            # So that it mostly arrives as a piece of its own; the test does not depend on it.
            await asyncio.sleep(0.001)
        if close:
            put.writer.close()

    return script


async def resets(put: Put) -> None:
    put.reset()


async def is_silent(put: Put) -> None:
    pass


async def drips(put: Put) -> None:
    while not put.writer.is_closing():
        put.writer.write(b"H" if put.writer.transport.get_write_buffer_size() == 0 else b"")
        await put.writer.drain()
        await asyncio.sleep(0.05)


GOOD_RESPONSES = {
    "at once": sends(GOOD),
    "byte for byte": sends(*(GOOD[n : n + 1] for n in range(len(GOOD)))),
    "100 first": sends(b"HTTP/1.1 100 Continue\r\n\r\n", GOOD),
    "100 with it": sends(b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD),
    "chunked": sends(CHUNKED),
    "chunked in pieces": sends(CHUNKED[:-5], b"0", b"\r\n\r", b"\n"),
    "and closes": sends(GOOD, close=True),
    "announces that it closes": sends(CLOSING, close=True),
    "HTTP/1.0": sends(GOOD.replace(b"1.1", b"1.0"), close=True),
}
CLOSED_AFTERWARDS = {"and closes", "announces that it closes", "HTTP/1.0"}


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("form", GOOD_RESPONSES)
def test_a_good_response_in_any_form_confirms_the_put(form: str, new_loop: Callable[[], Any]) -> None:
    async def scenario() -> None:
        async with scripted_s3(GOOD_RESPONSES[form]) as server, store_at(server) as store:
            for n in range(5):
                await store.create(f"events/{n}.json", b"{}")
                if form in CLOSED_AFTERWARDS:
                    await until(lambda: not server.open)
                # The event loop learns a little later that the server has closed a connection.
                await asyncio.sleep(0.02)
            assert server.clients == ["fast"] * 5
            assert server.puts[0].body == b"{}"

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())


UNCONFIRMED = {
    "closes at once": sends(close=True),
    "closes in the middle of its head": sends(GOOD[:30], close=True),
    "closes before the last byte": sends(GOOD[:-1], close=True),
    "closes in the middle of its chunks": sends(CHUNKED[:-2], close=True),
    "resets": resets,
    "sends nothing": is_silent,
    "never ends": drips,
    "only 100": sends(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "answers twice": sends(GOOD + GOOD),
    "no ETag": sends(GOOD.replace(b"ETag", b"X-Tag")),
    "a page instead": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nWelcome"),
    "no HTTP": sends(b"\x15\x03\x01\x00\x02\x02\x28"),
    "301": sends(b"HTTP/1.1 301 Moved\r\nLocation: http://other/\r\nContent-Length: 0\r\n\r\n"),
    "304": sends(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "307": sends(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://other/\r\nContent-Length: 0\r\n\r\n"),
    "403": sends(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
    "500": sends(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 5\r\n\r\nhel"),
    "503": sends(b"HTTP/1.1 503 Slow Down\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("script", UNCONFIRMED.values(), ids=UNCONFIRMED)
def test_an_unconfirmed_put_is_passed_on_and_its_connection_is_not_reused(
    script: Script, new_loop: Callable[[], Any]
) -> None:
    async def scenario() -> None:
        async with scripted_s3(script) as server, store_at(server, put_timeout_seconds=1) as store:
            await asyncio.wait_for(store.create("events/a.json", b'{"a":1}'), 20)
            assert server.clients == ["fast", "obstore"]
            assert {put.body for put in server.puts} == {b'{"a":1}'}
            server.script = answer_well
            await store.create("events/b.json", b"{}")
            assert server.clients[2:] == ["fast"]
            used = [put.connection for put in server.puts if put.fast]
            assert len(set(used)) == 2

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())


def test_existing_objects_are_passed_on_to_obstore_for_a_while() -> None:
    async def scenario() -> None:
        exists = sends(b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n")
        async with scripted_s3(exists) as server, store_at(server) as store:
            for n in range(20):
                await store.create(f"events/{n}.json", b"{}")
            assert server.clients[:2] == ["fast", "obstore"]
            assert server.clients.count("obstore") == 20
            assert server.clients.count("fast") <= 2
            server.script = answer_well

            end = time.monotonic() + 5
            while server.clients[-1] != "fast":
                await store.create("events/another.json", b"{}")
                assert time.monotonic() < end

    asyncio.run(scenario())


def test_connections_are_reused_and_opened_only_when_all_are_busy() -> None:
    async def scenario() -> None:
        proceed = asyncio.Event()

        async def answer_later(put: Put) -> None:
            await proceed.wait()
            put.writer.write(GOOD)

        async with scripted_s3() as server, store_at(server) as store:
            for n in range(20):
                await store.create(f"events/{n}.json", b"{}")
            assert server.opened == 1
            server.script = answer_later
            puts = asyncio.gather(*(store.create(f"events/b{n}.json", b"{}") for n in range(100)))
            await until(lambda: len(server.puts) == 120)
            assert server.opened == 100
            proceed.set()
            await puts
            await asyncio.gather(*(store.create(f"events/c{n}.json", b"{}") for n in range(100)))
            assert server.opened == 100
            assert set(server.clients) == {"fast"}
            # Unused connections are closed before the server does it.
            await until(lambda: not server.open)
            await store.create("events/d.json", b"{}")
            assert server.clients[-1] == "fast"

    asyncio.run(scenario())


def test_a_connection_closed_by_the_server_is_replaced_and_the_put_confirmed() -> None:
    async def scenario() -> None:
        async with scripted_s3() as server, store_at(server) as store:
            await store.create("events/a.json", b"{}")
            for writer in list(server.open):
                writer.close()
            await until(lambda: not server.open)
            await asyncio.sleep(0.05)
            await store.create("events/b.json", b"{}")
            assert server.clients == ["fast", "fast"]
            assert server.opened == 2

    asyncio.run(scenario())


def test_data_on_an_idle_connection_ends_it() -> None:
    async def scenario() -> None:
        async with scripted_s3() as server, store_at(server, put_timeout_seconds=1) as store:
            await store.create("events/a.json", b"{}")
            server.puts[0].writer.write(GOOD)
            await until(lambda: not server.open)
            server.script = is_silent
            await store.create("events/b.json", b"{}")
            assert server.clients == ["fast", "fast", "obstore"]

    asyncio.run(scenario())


def test_the_response_to_a_cancelled_put_belongs_to_no_other() -> None:
    async def scenario() -> None:
        async with scripted_s3(is_silent) as server, store_at(server) as store:
            first = asyncio.create_task(store.create("events/a.json", b"{}"))
            await until(lambda: len(server.puts) == 1)
            first.cancel()
            second = asyncio.create_task(store.create("events/b.json", b"{}"))
            await until(lambda: len(server.puts) == 2)
            server.puts[0].writer.write(GOOD)
            await asyncio.sleep(0.05)
            assert first.cancelled()
            assert not second.done()
            server.puts[1].writer.write(GOOD)
            await second
            assert server.clients == ["fast", "fast"]
            assert server.opened == 2

    asyncio.run(scenario())


def test_only_obstore_is_used_while_the_server_fails() -> None:
    slow_down = sends(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")

    async def scenario() -> None:
        async with scripted_s3(slow_down) as server, store_at(server) as store:
            server.everyone = True
            for n in range(5):
                with pytest.raises(StoreUnavailableError) as caught:
                    await store.create(f"events/{n}.json", b"{}")
                assert caught.value.cause == "slow_down"
            assert server.clients == ["fast"] + ["obstore"] * 5
            server.script = answer_well
            for n in range(3):
                await store.create(f"events/{n}.json", b"{}")
            assert server.clients[6:] == ["obstore", "fast", "fast"]

    asyncio.run(scenario())


def test_an_unreachable_server_is_used_again_when_it_is_available(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")

    async def scenario() -> None:
        async with scripted_s3() as server:
            port = server.port
        stopped = ScriptedS3(port, answer_well)
        async with store_at(stopped) as store:
            for _ in range(3):
                with pytest.raises(StoreUnavailableError):
                    await store.create("events/a.json", b"{}")
            restarted = await asyncio.start_server(stopped.serve, "127.0.0.1", port)
            while stopped.clients[-1:] != ["fast"]:
                await store.create("events/a.json", b"{}")
                await asyncio.sleep(0.05)
            restarted.close()

    asyncio.run(asyncio.wait_for(scenario(), 20))
    logged = [record for record in caplog.records if "passed on to obstore" in record.message]
    assert len(logged) == 1
    assert "cannot connect" in logged[0].message


def connections(port: int, **options: Any) -> Connections:
    """Connections to a name that resolves to `names`."""
    addresses = Addresses("store.test", port, every=options.pop("every", 60.0))
    server = Server(addresses, port, "store.test", None)
    return Connections(server, Timeouts(**{"response": 5.0, **options}))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of the name, each twice: for two kinds of sockets."""
    found: list[str] = []

    def answer(host: str, port: int, *args: object, **kwargs: object) -> list[Any]:
        assert host == "store.test"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, port)) for name in found for _ in range(2)]

    monkeypatch.setattr("socket.getaddrinfo", answer)
    return found


def test_connections_use_all_reachable_addresses_in_turn(names: list[str]) -> None:
    async def scenario() -> None:
        async with scripted_s3(host="0.0.0.0") as server:  # noqa: S104  # all of the loopback's addresses
            names.extend(["127.0.0.1", "127.0.0.2", "127.0.0.3"])
            pool = connections(server.port)
            for _ in range(9):
                await pool.connect()
            await until(lambda: server.opened == 9)
            reached = [writer.get_extra_info("sockname")[0] for writer in server.open]
            assert sorted(reached) == sorted(names * 3)
            pool.close()
            await until(lambda: not server.open)
        async with scripted_s3(host="127.0.0.2") as server:
            pool = connections(server.port)
            for _ in range(4):
                await pool.connect()
            pool.close()
            await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            await pool.connect()

    asyncio.run(scenario())


def test_a_name_without_reachable_addresses_is_looked_up_again(names: list[str]) -> None:
    async def scenario() -> None:
        names.extend(["127.0.0.1", "127.0.0.2"])
        addresses = Addresses("store.test", 443)
        assert sorted(await addresses.in_turn()) == names
        addresses.exclude("127.0.0.1")
        names[:] = ["127.0.0.3"]
        assert await addresses.in_turn() == ["127.0.0.2"]
        addresses.exclude("127.0.0.2")
        assert await addresses.in_turn() == ["127.0.0.3"]

    asyncio.run(scenario())


def test_concurrent_callers_share_one_failing_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def answer(*args: object, **kwargs: object) -> list[Any]:
        nonlocal asked
        asked += 1
        time.sleep(0.2)
        raise socket.gaierror("try again")

    async def scenario() -> None:
        addresses = Addresses("store.test", 443)
        found = await asyncio.gather(*(addresses.in_turn() for _ in range(20)), return_exceptions=True)
        assert {(type(each), str(each)) for each in found} == {(OSError, "try again")}

    monkeypatch.setattr("socket.getaddrinfo", answer)
    asyncio.run(scenario())
    assert asked == 1


def test_known_addresses_stay_valid_while_lookups_fail(
    names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        names.append("127.0.0.1")
        addresses = Addresses("store.test", 443, every=0.0)
        assert await addresses.in_turn() == ["127.0.0.1"]
        monkeypatch.setattr("socket.getaddrinfo", fails)
        assert await addresses.in_turn() == ["127.0.0.1"]

    def fails(*args: object, **kwargs: object) -> list[Any]:
        raise socket.gaierror("try again")

    asyncio.run(scenario())


def test_connecting_times_out_however_many_addresses_are_silent(
    names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []

    async def is_silent(loop: object, factory: object, host: str, *args: object, **kwargs: object) -> None:
        tried.append(host)
        await asyncio.Event().wait()

    monkeypatch.setattr("lakefeed_consumer.s3.fast.connections._ADDRESS_SECONDS", 0.1)
    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.create_connection", is_silent)

    async def scenario() -> None:
        names.extend(f"127.0.0.{n}" for n in range(1, 100))
        pool = connections(443, response=0.25)
        with pytest.raises(TimeoutError):
            await pool.connect()
        assert 2 <= len(set(tried)) <= 4

    asyncio.run(asyncio.wait_for(scenario(), 5))


def test_names_are_looked_up_again_and_old_connections_replaced(names: list[str]) -> None:
    async def scenario() -> None:
        async with scripted_s3(host="0.0.0.0") as server:  # noqa: S104  # all of the loopback's addresses
            pool = connections(server.port, every=0.0, age=0.0)
            for name in ("127.0.0.1", "127.0.0.2"):
                names[:] = [name]
                connection = await pool.connect()
                answer = await connection.put(
                    b"PUT / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", time.monotonic()
                )
                assert answer.stored
                assert server.puts[-1].writer.get_extra_info("sockname")[0] == name
                assert pool.idle == []
                await until(lambda: not server.open)

    asyncio.run(scenario())


def write_program(folder: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential process whose keys expire."""
    answer = {
        "Version": 1,
        "AccessKeyId": key,
        "SecretAccessKey": "hidden-secret",
        "SessionToken": f"token-of-{key}",
        "Expiration": (datetime.now(UTC) + timedelta(minutes=5)).isoformat(),
    }
    (folder / "answer.json").write_text(json.dumps(answer))
    (folder / "config").write_text(f"[default]\ncredential_process = cat {folder / 'answer.json'}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)


def signed_by(put: Put) -> str:
    found = re.search(rb"Credential=(\w+)/", put.head)
    assert found is not None
    key = found[1].decode()
    assert f"X-Amz-Security-Token: token-of-{key}\r\n".encode() in put.head
    return key


def test_rejected_keys_are_refreshed_immediately(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path, "old", monkeypatch)
    expired = sends(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async def scenario() -> None:
        async with scripted_s3() as server, store_at(server) as store:
            await store.create("events/a.json", b"{}")
            assert signed_by(server.puts[-1]) == "old"
            write_program(tmp_path, "new", monkeypatch)
            server.script = expired
            await store.create("events/b.json", b"{}")
            server.script = answer_well

            async def put() -> str:
                await store.create("events/c.json", b"{}")
                return signed_by([each for each in server.puts if each.fast][-1])

            end = time.monotonic() + 5
            while await put() != "new":
                assert time.monotonic() < end

    asyncio.run(scenario())


def test_keys_are_refreshed_regularly_and_trusted_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(tmp_path, "old", monkeypatch)

    async def scenario() -> None:
        chain = aws.session(load(ConsumerSettings)).get_credentials()
        assert chain is not None
        keys = RefreshedKeys(chain, every=0.05, trusted=1.0)

        def current() -> str | None:
            found = keys.current(time.monotonic())
            return found and found.access_key

        assert current() == "old"
        assert keys.current(time.monotonic()) is keys.current(time.monotonic())
        write_program(tmp_path, "new", monkeypatch)
        await until(lambda: current() == "new")
        (tmp_path / "answer.json").unlink()
        await asyncio.sleep(0.2)
        assert current() == "new"
        await until(lambda: current() is None)
        write_program(tmp_path, "newer", monkeypatch)
        await until(lambda: current() == "newer")

    asyncio.run(scenario())


class Chain:
    """Returns the same keys, or raises an error."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return ReadOnlyCredentials("key", "hidden-secret", None)


def test_keys_are_refreshed_while_nothing_is_put() -> None:
    async def scenario() -> None:
        chain: Any = Chain()
        keys = RefreshedKeys(chain, every=0.02, trusted=0.2)
        assert keys.current(time.monotonic()) == Keys("key", "hidden-secret")
        began = time.monotonic()
        await until(lambda: chain.asked > 3 and time.monotonic() > began + 0.3)
        assert keys.current(time.monotonic()) == Keys("key", "hidden-secret")
        keys.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [RuntimeError("refreshed, still expired"), ValueError("no JSON")])
def test_a_failing_credential_chain_is_asked_again(error: Exception) -> None:
    async def scenario() -> None:
        chain: Any = Chain()
        chain.error = error
        keys = RefreshedKeys(chain, every=0.02)
        assert keys.current(time.monotonic()) is None
        chain.error = None
        await until(lambda: keys.current(time.monotonic()) is not None)
        keys.close()

    asyncio.run(scenario())


def test_puts_without_keys_are_passed_on_to_obstore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path, "old", monkeypatch)

    async def scenario() -> None:
        async with scripted_s3() as server, store_at(server) as store:
            assert isinstance(store, FastObjectStore)
            store._keys._valid_until = 0.0
            await store.create("events/a.json", b"{}")
            assert server.clients == ["obstore"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("variables", "chosen"),
    [
        ({}, FastObjectStore),
        ({"LAKEFEED_S3_CLIENT": "fast"}, FastObjectStore),
        ({"LAKEFEED_S3_CLIENT": "lean"}, FastObjectStore),  # its former name
        ({"LAKEFEED_S3_CLIENT": "obstore"}, ObstoreObjectStore),
        # obstore supports proxies.
        ({"HTTP_PROXY": "http://127.0.0.1:9"}, ObstoreObjectStore),
        ({"ALL_PROXY": "http://127.0.0.1:9"}, ObstoreObjectStore),
        ({"HTTPS_PROXY": "http://127.0.0.1:9"}, FastObjectStore),
        ({"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}, FastObjectStore),
    ],
)
def test_the_setting_and_proxies_select_the_client(
    variables: dict[str, str], chosen: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    assert type(open_store(load(ConsumerSettings))) is chosen
