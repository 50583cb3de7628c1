"""The errors of puts have S3's own code and message, and advice that fits."""

from __future__ import annotations

import asyncio
import socket
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from lakefeed_common.errors import SettingsError
from lakefeed_common.settings import load
from lakefeed_consumer.metrics import RETRY_CAUSES
from lakefeed_consumer.object_store import ObjectStore, StoreRefusedError, StoreUnavailableError
from lakefeed_consumer.s3.client import open_store
from lakefeed_consumer.s3.errors import Failure, translate
from lakefeed_consumer.settings import S3_CLIENTS, ConsumerSettings
from tests.helpers.http_server import serving


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    status, body = 200, b""
    fields: dict[str, str] = {}  # noqa: RUF012 - replaced, never changed
    etag: dict[str, str] = {"ETag": '"0"'}  # noqa: RUF012 - the same
    heads: list[dict[str, str]]

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).heads.append({name.lower(): value for name, value in self.headers.items()})
        self.answer(self.etag | self.fields)

    def do_GET(self) -> None:
        self.answer(self.fields)

    def answer(self, fields: dict[str, str]) -> None:
        self.send_response(self.status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Answers]]:
    class Own(Answers):
        heads: list[dict[str, str]] = []  # noqa: RUF012 - of this server

    with serving(Own) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
        yield Own


def put(client: str, **options: float) -> None:
    store: ObjectStore = open_store(load(ConsumerSettings, {"s3_client": client, **options}))

    async def scenario() -> None:
        try:
            await store.create("events/secret-key.json", b"{}")
        finally:
            await store.close()

    asyncio.run(scenario())


def error(code: str, message: str, more: str = "") -> bytes:
    return (
        f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>'.encode()
    )


REFUSED = [
    (
        400,
        error("AuthorizationHeaderMalformed", "the region is wrong", "<Region>eu-west-1</Region>"),
        "Malformed: the region is wrong. The bucket is in eu-west-1. Set AWS_REGION=eu-west-1.",
    ),
    (
        400,
        error("KMS.DisabledException", "arn:aws:kms:x is disabled."),
        "refused with KMS.DisabledException: arn:aws:kms:x is disabled. Check the KMS key",
    ),
    (
        403,
        error(
            "AccessDenied",
            "User: u is not authorized to perform: s3:PutObject on resource: "
            "&quot;arn:aws:s3:::lakefeed/events/secret-key.json&quot; with an explicit deny in a resource "
            "policy",
        ),
        'on resource: "arn:aws:s3:::lakefeed/*" with an explicit deny in a resource policy.',
    ),
    (
        501,
        error("NotImplemented", "A header implies it"),
        "501 NotImplemented: A header implies it. This store",
    ),
    (400, error("InvalidRequest", "Content-MD5 is required"), "InvalidRequest: Content-MD5 is required."),
    (
        301,
        error("PermanentRedirect", "Use it.", "<Endpoint>b.s3-eu-west-1.amazonaws.com</Endpoint>"),
        "refused with PermanentRedirect: Use it. The bucket is in eu-west-1. Set AWS_REGION=eu-west-1.",
    ),
    (301, b"", "refused with 301: Moved Permanently. It names no other region: check AWS_REGION"),
    (403, b"<html><title>Blocked by policy 17</title></html>", "refused with 403: Blocked by policy 17."),
    (403, b'{"code": "QuotaExceeded", "message": "of tenant"}', "refused with QuotaExceeded: of tenant."),
    (
        403,
        b'<Error><Code a="b">Odd</Code><Message xml:lang="en">No</Message></Error>',
        "refused with Odd: No.",
    ),
    (403, b"<s:Error><s:Code>Odd</s:Code><s:Message>No\x1b</s:Message></s:Error>", "with Odd: No\\u001b."),
    (403, error("InvalidAccessKeyId", "It does not exist."), "It does not exist. Check the AWS credentials"),
]


@pytest.mark.parametrize("client", S3_CLIENTS)
@pytest.mark.parametrize(("status", "body", "expected"), REFUSED)
def test_a_refusal_has_s3s_message_and_advice(
    client: str, server: type[Answers], status: int, body: bytes, expected: str
) -> None:
    server.status, server.body = status, body
    with pytest.raises(StoreRefusedError) as caught:
        put(client)
    assert expected in str(caught.value)
    assert "secret-key" not in str(caught.value)
    assert ("Check the AWS credentials" in str(caught.value)) == (
        "InvalidAccessKeyId" in expected + str(caught.value)
    )


@pytest.mark.parametrize("client", S3_CLIENTS)
@pytest.mark.parametrize("status", [301, 400, 403])
def test_a_region_in_a_header_is_reported(client: str, status: int, server: type[Answers]) -> None:
    server.status, server.fields = status, {"x-amz-bucket-region": "eu-west-1"}
    with pytest.raises(StoreRefusedError, match=r"The bucket is in eu-west-1\. Set AWS_REGION=eu-west-1\."):
        put(client)


async def _listed(store: ObjectStore) -> object:
    return [key async for key in store.keys("events")]


NOT_S3S: dict[str, Callable[[ObjectStore], Awaitable[object]]] = {
    "read": lambda store: store.read("events/a.json"),
    "metadata": lambda store: store.metadata("events/a.json"),
    "keys": _listed,
    "check": lambda store: store.check(),
}


@pytest.mark.parametrize("call", NOT_S3S)
def test_a_page_with_status_200_is_not_an_answer_of_s3(call: str, server: type[Answers]) -> None:
    server.body = b"<html><p>Log in</p> to Wifi</html>"

    async def scenario() -> None:
        store = open_store(load(ConsumerSettings))
        try:
            await NOT_S3S[call](store)
        finally:
            await store.close()

    with pytest.raises(StoreUnavailableError, match="the response is not from S3: Log in to Wifi") as caught:
        asyncio.run(scenario())
    assert caught.value.cause == "other"


@pytest.mark.parametrize("client", S3_CLIENTS)
def test_an_error_with_status_200_has_stored_nothing(client: str, server: type[Answers]) -> None:
    server.body, server.etag = error("InternalError", "Try again"), {}
    with pytest.raises(StoreUnavailableError, match="the response is not from S3"):
        put(client)


@pytest.mark.parametrize("client", S3_CLIENTS)
@pytest.mark.parametrize("code", ["ThrottlingException", "KMS.ThrottlingException", "SlowDown", "Throttling"])
def test_throttling_is_retried_whatever_its_status(client: str, server: type[Answers], code: str) -> None:
    server.status, server.body = 400, error(code, "Rate exceeded")
    with pytest.raises(StoreUnavailableError, match=f"400 {code}: Rate exceeded") as caught:
        put(client)
    assert caught.value.cause == "slow_down"


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A port on which no process listens yet."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{bound.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
        yield bound


@pytest.mark.parametrize("client", S3_CLIENTS)
def test_a_refused_connection_is_unavailable(client: str, port: socket.socket) -> None:
    with pytest.raises(StoreUnavailableError, match="Connection refused") as caught:
        put(client)
    assert caught.value.cause == "connection"


@pytest.mark.parametrize("client", S3_CLIENTS)
def test_a_server_that_does_not_answer_in_time_is_unavailable(client: str, port: socket.socket) -> None:
    port.listen()
    with pytest.raises(StoreUnavailableError, match="no answer") as caught:
        put(client, put_timeout_seconds=0.5)
    assert caught.value.cause == "timeout"


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
@pytest.mark.parametrize("invalid", ["word\n", "wo\r\nrd", " word", "w\u00f6rd", "\x7f"])
def test_a_credential_that_no_header_can_carry_is_named(
    name: str, invalid: str, server: type[Answers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, invalid)
    with pytest.raises(SettingsError, match=f"^{name} has a line break") as caught:
        put("fast")
    assert len(str(caught.value).splitlines()) == 1
    assert "word" not in str(caught.value)
    assert not server.heads


@pytest.mark.parametrize("client", S3_CLIENTS)
def test_each_put_has_the_checksum_that_object_lock_requires(client: str, server: type[Answers]) -> None:
    put(client)
    (head,) = server.heads
    assert head["x-amz-checksum-sha256"] == b64encode(sha256(b"{}").digest()).decode()
    assert ("object_store/" in head.get("user-agent", "")) == (client == "obstore")
    assert head["if-none-match"] == "*"
    signed = head["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    assert "x-amz-checksum-sha256" in signed


@pytest.mark.parametrize(
    ("failure", "error", "cause"),
    [
        (Failure(404, "NoSuchBucket"), StoreRefusedError, "refused"),
        (Failure(301, "PermanentRedirect"), StoreRefusedError, "refused"),
        (Failure(400, "AuthorizationHeaderMalformed", region="eu-west-1"), StoreRefusedError, "refused"),
        (Failure(403), StoreRefusedError, "refused"),
        (Failure(501, "NotImplemented"), StoreRefusedError, "refused"),
        (Failure(403, "RequestTimeTooSkewed"), StoreUnavailableError, "other"),
        (Failure(409, "ConditionalRequestConflict"), StoreUnavailableError, "other"),
        (Failure(304), StoreUnavailableError, "other"),
        (Failure(503), StoreUnavailableError, "slow_down"),
        (Failure(400, "ThrottlingException"), StoreUnavailableError, "slow_down"),
        (Failure(502), StoreUnavailableError, "server_error"),
        (Failure(no_response="timeout"), StoreUnavailableError, "timeout"),
        (Failure(200), StoreUnavailableError, "other"),
        (Failure(no_response="certificate"), StoreUnavailableError, "connection"),
        (Failure(no_response="connection"), StoreUnavailableError, "connection"),
        (Failure(), StoreUnavailableError, "other"),
    ],
    ids=str,
)
def test_each_failure_of_a_client_is_one_error_of_the_store(
    failure: Failure, error: type[StoreRefusedError | StoreUnavailableError], cause: str
) -> None:
    translated = translate(failure, "bucket lake at s3.test")
    assert type(translated) is error
    assert translated.cause == cause
    assert cause in ("refused", *RETRY_CAUSES)
    assert str(translated).startswith("bucket lake at s3.test: ")
