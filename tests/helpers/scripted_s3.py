"""A local server that answers each put by a script, and records which client has sent it."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

GOOD = b'HTTP/1.1 200 OK\r\nETag: "0"\r\nContent-Length: 0\r\n\r\n'


@dataclass
class Put:
    """One request; `connection` counts from 1."""

    head: bytes
    body: bytes
    connection: int
    writer: asyncio.StreamWriter

    @property
    def fast(self) -> bool:
        """Whether the fast client has sent it, not obstore."""
        return b"object_store/" not in self.head

    def reset(self) -> None:
        """Reset the connection."""
        peer: socket.socket = self.writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Put], Awaitable[None]]


@dataclass
class ScriptedS3:
    """The server while it runs.

    Attributes:
        script: answers a put of the fast client; all others succeed.
        everyone: whether the script answers obstore's puts, too.
        puts: all puts received.
        open: connections that are open now.
    """

    port: int
    script: Script
    everyone: bool = False
    puts: list[Put] = field(default_factory=list)
    open: set[asyncio.StreamWriter] = field(default_factory=set)
    opened: int = 0

    @property
    def endpoint_url(self) -> str:
        """The address for `AWS_ENDPOINT_URL`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def clients(self) -> list[str]:
        """The clients that have sent the puts, in order: `fast` or `obstore`."""
        return ["fast" if put.fast else "obstore" for put in self.puts]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the puts of one connection until it ends."""
        self.opened += 1
        number = self.opened
        self.open.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                put = Put(head, body, number, writer)
                self.puts.append(put)
                if put.fast or self.everyone:
                    await self.script(put)
                else:
                    writer.write(GOOD)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()


async def answer_well(put: Put) -> None:
    """A script: the put succeeds."""
    put.writer.write(GOOD)


@asynccontextmanager
async def scripted_s3(script: Script = answer_well, host: str = "127.0.0.1") -> AsyncIterator[ScriptedS3]:
    """Run the server within the test's own event loop."""
    running = ScriptedS3(0, script)
    server = await asyncio.start_server(running.serve, host, 0)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()
        for writer in list(running.open):
            writer.transport.abort()
        await server.wait_closed()
