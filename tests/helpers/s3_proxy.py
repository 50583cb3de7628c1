"""A proxy before an S3 server, or before Glue, that answers some requests as a bad day would.

Faults are switched at run time.

It runs as a process of its own: `proxy.py PORT CONTROL-PORT SERVER-PORT SEED`. It parses of a request only
where it ends and what it puts, and of an answer the status, so that it costs little compared with what it
carries.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import unquote

import uvloop

from lakefeed_local.process import Child

HOST = "127.0.0.1"

# Answered by the proxy itself: the server never hears of the request.
ANSWERS = {
    "slow_down": (503, "SlowDown"),
    "internal_error": (500, "InternalError"),
    "expired_token": (400, "ExpiredToken"),
    "access_denied": (403, "AccessDenied"),
    "no_such_bucket": (404, "NoSuchBucket"),
    "clock_skew": (403, "RequestTimeTooSkewed"),
    "conditional_conflict": (409, "ConditionalRequestConflict"),
}
# A `late_request` reaches the server, perhaps after the client has given up; `silence` never does. A
# `late_answer` and a `lost_answer` are of requests that were done at once.
TROUBLES = ("reset", "silence", "cut_answer", "lost_answer", "late_request", "late_answer")
KINDS = (*ANSWERS, *TROUBLES, "outage")


@dataclass(frozen=True)
class Faults:
    """What goes wrong from now on.

    Attributes:
        shares: share of the requests, 0 to 1, by kind of fault; of `outage`, any share is a whole one.
        seconds: how late a late request or answer is.
        method: only requests with this method; all if empty.
        mention: only requests whose head has this text, such as the target of a call to Glue; all if empty.
        keys: the only access keys that are not expired; all if empty.
    """

    shares: dict[str, float] = field(default_factory=dict)
    seconds: float = 30.0
    method: str = ""
    mention: str = ""
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = self.shares.keys() - set(KINDS)
        if unknown:
            raise ValueError(f"no such fault: {', '.join(unknown)}. There are {', '.join(KINDS)}")

    def draw(self, chance: float, head: bytes) -> str | None:
        """The fault of a request, by a number from 0 to 1; None lets it through."""
        if self.method and not head.startswith(self.method.encode()):
            return None
        if self.mention.encode() not in head:
            return None
        if self.keys and not any(f"Credential={key}/".encode() in head for key in self.keys):
            return "expired_token"
        for kind, share in self.shares.items():
            chance -= share
            if chance < 0:
                return kind
        return None


class S3Proxy:
    """The proxy as a child process, from `with` to the end of it; `endpoint_url` is for the client.

    Args:
        server_port: where the S3 server listens.
        ports: two free ones, for the client and for the switches.
        log_file: gets what it prints.
        seed: repeats its choices.
    """

    def __init__(self, server_port: int, ports: tuple[int, int], log_file: Path, seed: int = 0) -> None:
        self._port, self._control_port = ports
        words = [str(word) for word in (*ports, server_port, seed)]
        self._command = [sys.executable, "-P", __file__, *words]
        self._log_file = log_file

    def __enter__(self) -> S3Proxy:
        self._child = Child("the proxy", self._command, self._log_file, grace_seconds=2)
        self._child.wait_until(self._serves, 30)
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stop()

    @property
    def endpoint_url(self) -> str:
        """The address for `AWS_ENDPOINT_URL`."""
        return f"http://{HOST}:{self._port}"

    def set(self, faults: Faults) -> None:
        """Let these faults happen from now on, and no others."""
        self._ask(json.dumps(asdict(faults)))

    def counts(self) -> Counter[str]:
        """Requests so far, by the kind of their fault; `none` had none. `came_late`: late ones, answered."""
        return Counter(json.loads(self._ask("")))

    def repeated(self) -> list[tuple[float, str]]:
        """Puts of objects whose earlier put the client knew to be done: the time (monotonic) and the path.

        No retry is among them: it follows an answer that did not come, or that was an error.
        """
        return [(at, path) for at, path in json.loads(self._ask(json.dumps(_REPEATED)))]

    def _ask(self, order: str) -> str:
        with (
            socket.create_connection((HOST, self._control_port), timeout=10) as control,
            control.makefile("rw") as lines,
        ):
            lines.write(order + "\n")
            lines.flush()
            return lines.readline()

    def _serves(self) -> bool:
        try:
            self._ask("")
        except OSError:
            return False
        return True


# ---- the process ----------------------------------------------------------------------------


_REPEATED = "repeated"
_PUT = re.compile(rb"PUT ([^ ?]+) ")
_DONE = re.compile(rb"HTTP/1.1 (?:200|412) ")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect: *100-continue", re.IGNORECASE)
_END = b"\r\n\r\n"


class Gate:
    """Where clients come in: the faults of now, and what has been done to how many requests."""

    def __init__(self, port: int, server_port: int, seed: int) -> None:
        self.port = port
        self.server_port = server_port
        self.random = random.Random(seed)
        self.faults = Faults()
        self.counts: Counter[str] = Counter()
        self.clients: set[Client] = set()
        self.late: set[asyncio.Task[None]] = set()
        self.stored: set[str] = set()
        self.repeated: list[tuple[float, str]] = []
        self._server: asyncio.Server | None = None

    async def switch(self, faults: Faults) -> None:
        """Change the faults; an outage closes the door and every connection."""
        self.faults = faults
        away = "outage" in faults.shares
        if away and self._server is not None:
            self._server.close()
            self._server = None
            for client in list(self.clients):
                client.reset()
        if not away and self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: Client(self), HOST, self.port, backlog=1024)

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one order, new faults or none, and answer with the counts, or with the repeated puts."""
        order = json.loads((await reader.readline()).strip() or b"{}")
        if order and order != _REPEATED:
            await self.switch(Faults(**order))
        writer.write(json.dumps(self.repeated if order == _REPEATED else self.counts).encode() + b"\n")
        writer.close()


class Client(asyncio.Protocol):
    """One connection of a client, with one to the server behind it. HTTP/1.1, one request at a time."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._buffer = b""
        self._server: Server | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._gate.clients.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._gate.clients.discard(self)
        if self._server is not None:
            self._server.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(_END)
        if end < 0:
            return
        if _EXPECTS.search(self._buffer, 0, end):
            # boto3 waits a second for this before it sends a file's body. The server need not say it again.
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._buffer = _EXPECTS.sub(b"", self._buffer, count=1)
            end = self._buffer.find(_END)
        length = _LENGTH.search(self._buffer, 0, end)
        size = end + len(_END) + (int(length[1]) if length else 0)
        if len(self._buffer) < size:
            return
        request, self._buffer = self._buffer[:size], self._buffer[size:]
        self._handle(request, self._gate.faults.draw(self._gate.random.random(), request[:end]))

    def _handle(self, request: bytes, fault: str | None) -> None:
        self._gate.counts[fault or "none"] += 1
        put = _PUT.match(request)
        path = unquote(put[1].decode()) if put else ""
        if path in self._gate.stored:
            self._gate.repeated.append((time.monotonic(), path))
        if fault in ANSWERS:
            self.transport.write(_answer(*ANSWERS[fault]))
        elif fault == "reset":
            self.reset()
        elif fault == "silence":
            return
        elif fault == "late_request":
            task = asyncio.create_task(self._deliver_late(request))
            self._gate.late.add(task)
            task.add_done_callback(self._gate.late.discard)
        else:
            if self._server is None:
                self._server = Server(self, self._gate)
            self._server.send(request, fault, path)

    async def _deliver_late(self, request: bytes) -> None:
        """As a network does that keeps a request back: it arrives even if no client waits for it any more."""
        await asyncio.sleep(self._gate.faults.seconds)
        reader, writer = await asyncio.open_connection(HOST, self._gate.server_port)
        writer.write(request)
        answer = await reader.read(1 << 16)
        writer.close()
        self._gate.counts["came_late"] += 1
        if not self.transport.is_closing():
            self.transport.write(answer)

    def reset(self) -> None:
        """End the connection the hard way: the client gets `connection reset by peer`."""
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class Server(asyncio.Protocol):
    """The connection to the server behind one client's."""

    def __init__(self, client: Client, gate: Gate) -> None:
        self._client = client
        self._gate = gate
        self._fault: str | None = None
        self._path = ""
        self._waiting = b""
        self._transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        self._connecting = loop.create_task(loop.create_connection(lambda: self, HOST, gate.server_port))
        self._connecting.add_done_callback(self._connected)

    def _connected(self, connecting: asyncio.Task[tuple[asyncio.Transport, Server]]) -> None:
        if connecting.cancelled() or connecting.exception() is not None:
            self._client.reset()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.send(self._waiting, self._fault, self._path)

    def connection_lost(self, _: Exception | None) -> None:
        self._client.transport.close()

    def send(self, request: bytes, fault: str | None, path: str) -> None:
        """Pass a request on; the fault is for its answer, the path that of a put."""
        self._fault = fault
        self._path = path
        if self._transport is None:
            self._waiting = request
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._fault == "lost_answer":
            self._client.reset()
        elif self._fault == "cut_answer":
            # With a body, the cut goes through it; else through the head.
            start = data.find(_END) + len(_END)
            start = start if start < len(data) else 0
            self._client.transport.write(data[: (start + len(data)) // 2])
            self._client.transport.close()
            self._fault = "lost_answer"
        elif self._fault == "late_answer":
            loop = asyncio.get_running_loop()
            loop.call_later(self._gate.faults.seconds, self._client.transport.write, data)
        else:
            if self._path and _DONE.match(data):
                self._gate.stored.add(self._path)
            self._client.transport.write(data)

    def close(self) -> None:
        """End the connection once what was sent has left."""
        if self._transport is None:
            self._connecting.cancel()
        else:
            self._transport.close()


def _answer(status: int, code: str) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>by the proxy</Message></Error>".encode()
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _serve(port: int, control_port: int, server_port: int, seed: int) -> None:
    gate = Gate(port, server_port, seed)
    await gate.switch(Faults())
    control = await asyncio.start_server(gate.control, HOST, control_port)
    await control.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(*map(int, sys.argv[1:])))
