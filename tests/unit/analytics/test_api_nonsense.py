"""Whatever a client sends, however slowly, the API responds as documented and keeps serving others."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx
import pytest
from schemathesis import GenerationMode

from lakefeed_analytics import server
from tests.helpers.analytics.lake import NUMBERS, Lake, lake
from tests.helpers.analytics.openapi_requests import check
from tests.helpers.waiting import wait_for

__all__ = ["lake"]

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_api_responds_as_documented(lake: Lake, mode: GenerationMode) -> None:
    lake.catalogue.add("prices", "2026-01-01")
    lake.health.ready("glue")
    query = lake.start(NUMBERS)
    answered = check(str(lake.http.base_url), mode, 8, names=["prices", "volatility"], query=query)
    assert answered.total() > 60
    assert answered[200 if mode is GenerationMode.POSITIVE else 422] > 20


def problem(answer: httpx.Response, *statuses: int) -> None:
    """A problem detail that the caller can do something about."""
    assert answer.status_code in statuses, f"{answer.request.url}: {answer.text[:300]}"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("path", ["/v1/queries", "/v1/named-queries/volatility/run"])
@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", None])
def test_json_without_its_header_gets_advice(lake: Lake, path: str, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answer = lake.http.post(path, content=b'{"sql": "SELECT 1"}', headers=headers)
    problem(answer, 422)
    detail = answer.json()["detail"]
    assert detail.startswith("the body must be JSON with the header `Content-Type: application/json`")
    assert (content_type or "it is missing") in detail
    # An invalid body with the correct header does not mention the header.
    assert "header" not in lake.http.post(path, content=b"[1]", headers=JSON).json()["detail"]


@pytest.mark.parametrize("body", [b"[]", b'"SELECT 1"', b"1"])
def test_json_that_is_not_an_object_is_reported(lake: Lake, body: bytes) -> None:
    answer = lake.http.post("/v1/queries", content=body, headers=JSON)
    problem(answer, 422)
    assert answer.json()["detail"] == 'body: the body must be a JSON object, such as {"sql": "SELECT 1"}'


def test_a_body_that_is_not_utf_8_is_reported(lake: Lake) -> None:
    answer = lake.http.post("/v1/queries", content=b'{"sql": "\xff"}', headers=JSON)
    problem(answer, 400)
    assert "The body is not UTF-8" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"sql": "' + b"x" * 10_000_000 + b'"}',
        b"[" * 10_000_000,
        b'{"a":' * 1_000_000,
        b"\x00" * 2_100_000,
    ],
    ids=["text", "deep list", "deep object", "zeros"],
)
def test_a_body_of_megabytes_is_413(lake: Lake, body: bytes) -> None:
    for path in ("/v1/queries", "/v1/named-queries/volatility/run"):
        problem(lake.http.post(path, content=body, headers=JSON), 413)
    assert lake.http.get("/healthz").status_code == 200


def test_a_body_without_an_end_is_cut_off(lake: Lake) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(1000):
            yield b" " * 10_000

    # The server may close before all is sent.
    with suppress(httpx.WriteError, httpx.RemoteProtocolError):
        problem(lake.http.post("/v1/queries", content=pieces(), headers=JSON), 413)
    assert lake.http.get("/healthz").status_code == 200


TYPES = ["text/plain", "application/xml", "multipart/form-data", "application/x-www-form-urlencoded", "é", ""]


def test_a_body_of_another_type_is_refused(lake: Lake) -> None:
    for content_type in TYPES:
        headers = {"content-type": content_type.encode()}
        problem(lake.http.post("/v1/queries", content=b"sql=SELECT 1", headers=headers), 400, 422)  # type: ignore[arg-type]
        assert lake.engine.queries == {}


NONSENSE = [
    b"\xff\xfe",
    b'{"sql": "SELECT \x00"}',
    b'{"sql": "SELECT \\u0000"}',
    b'{"sql": "SELECT \\ud800"}',
    b'{"sql": ' + b"9" * 10_000 + b"}",
    b'{"sql": -1e999}',
    b'{"sql": Infinity}',
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 100_000,
    b'{"sql": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b'{"sql": "SELECT 1"}{"sql": "SELECT 2"}',
    b'{"sql": "DELETE FROM prices"}',
    b'{"sql": "SELECT 1; DROP TABLE prices"}',
    b'{"sql": "CREATE TABLE x AS SELECT 1"}',
    b'{"sql": "UNLOAD (SELECT 1) TO \'s3://x/\'"}',
]


def test_a_body_of_nonsense_is_refused(lake: Lake) -> None:
    for body in NONSENSE:
        answer = lake.http.post("/v1/queries", content=body, headers=JSON)
        assert answer.status_code in (400, 422), body[:100]
        problem(answer, 400, 422)
        assert lake.engine.queries == {}, body[:100]


TRICKS = [
    "/v1/tables/..%2f..%2fetc%2fpasswd",
    "/v1/tables/../../etc/passwd",
    "/v1/tables/%00",
    "/v1/tables/%ff%fe",
    "/v1/tables//sample",
    "/v1/named-queries/..%2fvolatility",
    "/v1/named-queries/%2e%2e/run",
    "/v1/queries/" + "a" * 10_000,
    "/v1/queries/%0d%0aX-Injected:%201",
    "//v1//tables",
    "/v1/tables;x=1",
]


def test_tricks_in_a_path_find_nothing(lake: Lake) -> None:
    for path in TRICKS:
        answer = raw(lake, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 422", b"HTTP/1.1 405")), path
        assert b"X-Injected" not in answer.partition(b"\r\n\r\n")[0]
        assert b"root:" not in answer


NUMBERS_OUT_OF_BOUNDS = [
    "-1",
    "0",
    "1e309",
    "9" * 400,
    "NaN",
    "0x10",
    "1.5",
    "%00",
    "",
    "\N{ARABIC-INDIC DIGIT ONE}",
]


def test_numbers_out_of_bounds_are_refused(lake: Lake) -> None:
    lake.catalogue.add("prices", "2026-01-01")
    for number in NUMBERS_OUT_OF_BOUNDS:
        for path in ("/v1/crawls", "/v1/queries", "/v1/tables/prices/partitions"):
            answer = lake.http.get(f"{path}?limit={number}")
            problem(answer, 422)


METHODS = ["PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "BREW"]


def test_a_wrong_method_is_405(lake: Lake) -> None:
    for method in METHODS:
        answer = lake.http.request(method, "/v1/tables")
        assert answer.status_code == 405, method
        problem(answer, 405)


@contextmanager
def connected(lake: Lake) -> Iterator[socket.socket]:
    url = lake.http.base_url
    with socket.create_connection((url.host, url.port or 0), timeout=30) as connection:
        yield connection


def raw(lake: Lake, request: bytes) -> bytes:
    """All that is answered to some bytes until the server closes."""
    pieces = []
    # A server that closes before it has read all resets the connection, after its answer.
    with connected(lake) as connection, suppress(ConnectionError):
        connection.sendall(request)
        while piece := connection.recv(65_536):
            pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000,
        b"GET /" + b"a" * 100_000,
    ],
    ids=["TLS", "half a line", "length", "two lengths", "long header", "long path"],
)
def test_invalid_http_is_400(lake: Lake, request_: bytes) -> None:
    assert raw(lake, request_).startswith(b"HTTP/1.1 400")
    assert lake.http.get("/healthz").status_code == 200


def test_clients_that_hang_up_in_the_middle_leave_nothing_behind(lake: Lake) -> None:
    head = b"POST /v1/queries HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n"
    for request in (b"GET /v1/tab", head, head + b'{"sql', b"GET /v1/tables HTTP/1.1\r\nHost: x\r\n\r\n"):
        for _ in range(20):
            with connected(lake) as connection:
                connection.sendall(request)
    assert lake.http.get("/healthz").status_code == 200
    assert lake.engine.queries == {}
    value = lake.metrics.registry.get_sample_value
    assert value("lakefeed_errors_total", {"kind": "internal"}) == 0


def test_slow_clients_are_disconnected_and_do_not_block_others(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_head = b"GET /v1/tables HTTP/1.1\r\nHost: x\r\nX-Slow: "
    slow_body = b"POST /v1/queries HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n"

    def dawdling(held: ExitStack) -> list[socket.socket]:
        slow = [held.enter_context(connected(lake)) for _ in range(100)]
        for number, connection in enumerate(slow):
            connection.sendall((b"", slow_head, slow_body)[number % 3])
        return slow

    # Others are served meanwhile: these are not cut off before the test has ended.
    monkeypatch.setattr(server, "_REQUEST_SECONDS", 3600)
    with ExitStack() as held:
        dawdling(held)
        assert lake.http.get("/healthz").status_code == 200
    monkeypatch.setattr(server, "_REQUEST_SECONDS", 2)
    with ExitStack() as held:
        slow = dawdling(held)
        for connection in slow:
            connection.setblocking(False)

        def closed() -> bool:
            """Whether the server has closed all connections, although each keeps sending bytes slowly."""
            for number, connection in enumerate(list(slow)):
                try:
                    if number % 3:
                        connection.send(b"x")
                    if connection.recv(65_536) == b"":
                        slow.remove(connection)
                except BlockingIOError:
                    continue
                except OSError:
                    slow.remove(connection)
            return not slow

        wait_for(closed, 40, lambda: f"{len(slow)} connections are open still")
    # A client that takes its time between two requests, as browsers do, is none of these.
    assert lake.http.get("/healthz").status_code == 200
