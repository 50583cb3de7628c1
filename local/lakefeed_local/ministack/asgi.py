"""Calls of AWS's APIs over ASGI, as values: read, answered, or passed on to the app behind."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_CREDENTIAL = re.compile(r"Credential=([^/,]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")
_DEFAULT_ACCOUNT = "000000000000"


@dataclass(frozen=True)
class Credential:
    """Who signed a call, and for which region and service."""

    access_key: str
    region: str
    service: str

    @property
    def account(self) -> str:
        """The account, as MiniStack derives it: a key of twelve digits is the account's id."""
        return self.access_key if re.fullmatch(r"\d{12}", self.access_key) else _DEFAULT_ACCOUNT

    def header(self) -> str:
        """An `Authorization` header; MiniStack checks no signature."""
        scope = f"{self.access_key}/20260101/{self.region}/{self.service}/aws4_request"
        return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=unchecked"


@dataclass(frozen=True)
class Response:
    """An HTTP response."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def header(scope: Scope, name: str) -> str:
    """A header of a request, empty without one."""
    wanted = name.lower().encode()
    return next((value.decode("latin-1") for key, value in scope["headers"] if key.lower() == wanted), "")


def with_headers(scope: Scope, headers: Mapping[str, str]) -> Scope:
    """The request with some headers replaced."""
    replaced = {name.lower().encode(): value.encode("latin-1") for name, value in headers.items()}
    kept = [(name, value) for name, value in scope["headers"] if name.lower() not in replaced]
    return {**scope, "headers": [*kept, *replaced.items()]}


def credential(scope: Scope) -> Credential | None:
    """Who signed a request; None for one that is not signed, such as a health check."""
    found = _CREDENTIAL.search(header(scope, "authorization"))
    return Credential(*found.groups()) if found else None


async def read_body(receive: Receive) -> bytes:
    """The whole body of a request."""
    chunks: list[bytes] = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


def replay(body: bytes, receive: Receive) -> Receive:
    """Deliver a body that was read already, then what comes after it."""
    delivered = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal delivered
        if delivered:
            return await receive()
        delivered = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def request(app: App, scope: Scope, body: bytes) -> Response:
    """Send a request to an app and wait for its response."""
    start: MutableMapping[str, Any] = {}
    chunks: list[bytes] = []

    async def disconnected() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        elif message["type"] == "http.response.body":
            chunks.append(message.get("body", b""))

    await app(with_headers(scope, {"content-length": str(len(body))}), replay(body, disconnected), send)
    return Response(start["status"], list(start["headers"]), b"".join(chunks))


async def respond(send: Send, response: Response) -> None:
    """Send a response."""
    headers = [(name, value) for name, value in response.headers if name.lower() != b"content-length"]
    headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": False})


# ---- the JSON APIs, such as Glue's and Athena's ---------------------------------------------


@dataclass(frozen=True)
class Answer:
    """The answer of a JSON API: the HTTP status and the document."""

    status: int
    data: dict[str, Any]

    @classmethod
    def ok(cls, data: dict[str, Any] | None = None) -> Answer:
        """The answer to a call that succeeded."""
        return cls(200, data or {})

    @classmethod
    def error(cls, code: str, message: str) -> Answer:
        """The answer to a call that AWS refuses, such as `EntityNotFoundException`."""
        return cls(400, {"__type": code, "message": message})

    @property
    def succeeded(self) -> bool:
        """Whether the call was not refused."""
        return self.status == 200

    def response(self) -> Response:
        """The answer as it is sent."""
        headers = [(b"content-type", b"application/x-amz-json-1.1")]
        if "__type" in self.data:
            headers.append((b"x-amzn-errortype", str(self.data["__type"]).encode()))
        return Response(self.status, headers, json.dumps(self.data).encode())


@dataclass(frozen=True)
class Call:
    """A call of an action."""

    data: dict[str, Any]
    credential: Credential
    scope: Scope
    app: App

    @property
    def owner(self) -> tuple[str, str]:
        """Account and region, which have names of their own for everything."""
        return self.credential.account, self.credential.region

    async def forward(self, data: dict[str, Any] | None = None) -> Answer:
        """The answer of the app behind, to the call itself or to one with other data."""
        response = await request(
            self.app, self.scope, json.dumps(self.data if data is None else data).encode()
        )
        return Answer(response.status, json.loads(response.body or b"{}"))

    async def ask(self, action: str, data: dict[str, Any]) -> Answer:
        """The answer of the app behind to another action of the same API."""
        api = header(self.scope, "x-amz-target").partition(".")[0]
        other = Call(
            data, self.credential, with_headers(self.scope, {"x-amz-target": f"{api}.{action}"}), self.app
        )
        return await other.forward()


Action = Callable[[Call], Awaitable[Answer]]


class Actions:
    """An app that answers some actions itself, by `X-Amz-Target`; the app behind it answers all others."""

    def __init__(self, app: App, actions: Mapping[str, Action]) -> None:
        self._app = app
        self._actions = actions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        action = self._actions.get(header(scope, "x-amz-target")) if scope["type"] == "http" else None
        signed = credential(scope) if action is not None else None
        if action is None or signed is None:
            await self._app(scope, receive, send)
            return
        body = await read_body(receive)
        try:
            data = json.loads(body or b"{}")
        except ValueError:
            # The app behind says what AWS says of it.
            await self._app(scope, replay(body, receive), send)
            return
        answer = await action(Call(data, signed, scope, self._app))
        await respond(send, answer.response())


class OwnOrigin:
    """Refuses requests from pages of other hosts, which a browser also sends to the loopback interface."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond with 403, or pass the request on; AWS's clients send no `Origin`."""
        origin = header(scope, "origin") if scope["type"] == "http" else ""
        if origin and origin.partition("://")[2].lower() != header(scope, "host").lower():
            await respond(send, Response(403, [], b"the request comes from a page of another origin"))
        else:
            await self._app(scope, receive, send)
