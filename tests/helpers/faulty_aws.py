"""A proxy in front of the local AWS that answers chosen calls as a test says, as AWS does on a bad day."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.helpers.http_server import QuietServer

_UPSTREAM_SECONDS = 60
_HOP_BY_HOP = {"connection", "content-length", "date", "host", "keep-alive", "server", "transfer-encoding"}


@dataclass(frozen=True)
class Call:
    """One request; `action` is that of Glue or Athena, such as `GetCrawler`, and `S3` for all of S3's."""

    action: str
    method: str
    headers: dict[str, str]
    body: bytes

    @property
    def arguments(self) -> dict[str, Any]:
        """What the call was given, in the JSON of Glue and Athena."""
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    status: int
    headers: dict[str, str]
    body: bytes


Forward = Callable[[], Answer]
"""Passes the call on and returns the AWS's own answer."""

Fault = Callable[[Call, Forward], Answer | None]
"""What a call gets instead; None is a connection that is reset."""


def error(code: str, message: str = "", status: int = 400) -> Fault:
    """An error of Glue or Athena."""
    body = json.dumps({"__type": code, "message": message}).encode()
    return lambda _, __: Answer(status, {"Content-Type": "application/x-amz-json-1.1"}, body)


def s3_error(code: str, status: int) -> Fault:
    """An error of S3."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
    return lambda _, __: Answer(status, {"Content-Type": "application/xml"}, body)


def reset(_: Call, __: Forward) -> None:
    """The connection is reset and the call never arrives."""


def lost(_: Call, forward: Forward) -> None:
    """The call is done, and its answer is lost."""
    forward()


def never(_: Call, __: Forward) -> None:
    """The call never arrives, and the client waits without an answer."""
    time.sleep(_UPSTREAM_SECONDS)


def late(seconds: float) -> Fault:
    """The right answer, but later."""

    def fault(_: Call, forward: Forward) -> Answer:
        time.sleep(seconds)
        return forward()

    return fault


class Gate:
    """A fault: the call waits until it is released, and then gets the right answer."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._arrived, self._released, self._answered = (threading.Event() for _ in range(3))

    def __call__(self, _: Call, forward: Forward) -> Answer:
        """See `Fault`."""
        self._arrived.set()
        self._released.wait(self._seconds)
        answer = forward()
        self._answered.set()
        return answer

    def wait(self) -> None:
        """Wait until a call has arrived."""
        assert self._arrived.wait(self._seconds)

    def release(self) -> None:
        """End its wait; what arrives later does not wait."""
        self._released.set()

    def wait_answered(self) -> None:
        """Wait until a call has its answer."""
        assert self._answered.wait(self._seconds)


def edited(edit: Callable[[dict[str, Any]], None]) -> Fault:
    """The right answer with something changed in its JSON."""

    def fault(_: Call, forward: Forward) -> Answer:
        answer = forward()
        if answer.status != 200:
            return answer
        content = json.loads(answer.body)
        edit(content)
        return Answer(answer.status, answer.headers, json.dumps(content).encode())

    return fault


class FaultyAws:
    """The proxy, from `with` to the end of it."""

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream)
        self._faults: dict[str, list[Fault]] = {}
        self._always: dict[str, Fault] = {}
        self._server: QuietServer | None = None
        self._port = 0
        self.calls: list[Call] = []

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The address for `AWS_ENDPOINT_URL`; the same after it was closed and opened again."""
        return f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        """Listen."""
        self._server = QuietServer(("127.0.0.1", self._port), _handler(self))
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Refuse connections from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def once(self, action: str, *faults: Fault) -> None:
        """The next calls of an action get these, one each."""
        self._faults.setdefault(action, []).extend(faults)

    def always(self, action: str, fault: Fault) -> None:
        """All calls of an action get this; `*` is any action that has no fault of its own."""
        self._always[action] = fault

    def heal(self) -> None:
        """All calls are passed on again."""
        self._faults.clear()
        self._always.clear()

    def made(self, action: str) -> list[Call]:
        """The calls of an action so far."""
        return [call for call in self.calls if call.action == action]

    def answer(self, call: Call, forward: Forward) -> Answer | None:
        """What a call gets."""
        self.calls.append(call)
        if self._server is None:
            # A connection from before.
            return None
        waiting = self._faults.get(call.action)
        fault = waiting.pop(0) if waiting else self._always.get(call.action) or self._always.get("*")
        return fault(call, forward) if fault else forward()

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Pass a call on."""
        assert self._upstream.hostname
        connection = http.client.HTTPConnection(
            self._upstream.hostname, self._upstream.port, timeout=_UPSTREAM_SECONDS
        )
        try:
            connection.request(method, path, body, _passed(headers))
            answer = connection.getresponse()
            return Answer(answer.status, _passed(dict(answer.getheaders())), answer.read())
        finally:
            connection.close()


def _passed(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}


def _handler(proxy: FaultyAws) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = dict(self.headers.items())
            action = headers.get("X-Amz-Target", "").rpartition(".")[2] or "S3"
            answer = proxy.answer(
                Call(action, self.command, headers, body),
                lambda: proxy.forward(self.command, self.path, headers, body),
            )
            if answer is None:
                self.close_connection = True
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815 - the library's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            """The test sees what was called."""

    return Handler
