"""Persistent connections to a server, one put in flight on each."""

from __future__ import annotations

import asyncio
import random
import ssl
from dataclasses import dataclass
from time import monotonic

from lakefeed_consumer.s3.fast.addresses import Addresses
from lakefeed_consumer.s3.fast.responses import PutResult, ResponseParser, unconfirmed

# For one address, and for a connection in total.
_ADDRESS_SECONDS = 2.0
_CONNECT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Server:
    """Where to connect.

    Attributes:
        addresses: of the server's name.
        port: the same for all addresses.
        name: the host name that the certificate must have.
        tls: verifies the certificate; None for plain HTTP.
    """

    addresses: Addresses
    port: int
    name: str
    tls: ssl.SSLContext | None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds.

    Attributes:
        response: how long to wait for a response.
        idle: how long to keep an unused connection. Servers close theirs after 5 s or more.
        age: about when a connection is replaced, possibly by one to another address.
    """

    response: float
    idle: float = 3.0
    age: float = 300.0


class Connection(asyncio.Protocol):
    """One connection: idle, or waiting for the response to a put.

    Attributes:
        since: when the put was sent, or the connection became idle; by `time.monotonic`.
    """

    def __init__(self, pool: Connections, now: float) -> None:
        self._pool = pool
        self._waiting: asyncio.Future[PutResult] | None = None
        self._received = b""
        self.since = now
        # Connections that were opened together are not replaced together.
        self.replace_at = now + pool.timeouts.age * random.uniform(0.8, 1.2)  # noqa: S311  # no secret

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._pool.open.add(self)

    def put(self, request: bytes, now: float) -> asyncio.Future[PutResult]:
        """Send a whole request; the future always gets a result, also when no response comes."""
        self._waiting = waiting = self._pool.loop.create_future()
        self.since = now
        self._transport.write(request)
        return waiting

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._received:
            data = self._received + data
        # What arrives while no put is in flight belongs to none.
        result = (
            self._pool.parse(data)
            if self._waiting is not None
            else unconfirmed("a response without a request")
        )
        if result is None:
            self._received = data
        else:
            self._received = b""
            self._end(result)

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._pool.open.discard(self)
        self._end(unconfirmed(f"connection lost ({error or 'closed by the server'})"))

    def _end(self, result: PutResult) -> None:
        waiting, self._waiting = self._waiting, None
        now = monotonic()
        if result.reusable and now < self.replace_at:
            self.since = now
            self._pool.idle.append(self)
        else:
            self.abort()
        # The caller may have been cancelled.
        if waiting is not None and not waiting.done():
            waiting.set_result(result)

    def abort(self) -> None:
        """Close it at once."""
        if self in self._pool.idle:
            self._pool.idle.remove(self)
        self._transport.abort()

    def check(self, now: float) -> None:
        """End a put that has timed out; close a connection before the server closes it as idle."""
        if self._waiting is None:
            if now - self.since >= self._pool.timeouts.idle:
                self.abort()
        elif now - self.since >= self._pool.timeouts.response:
            self._end(unconfirmed("no response in time"))


class Connections:
    """The connections to one server: one is opened when none is idle, so there are as many as puts in flight.

    Args:
        server: where to connect.
        timeouts: how long to wait and to keep connections.
    """

    def __init__(self, server: Server, timeouts: Timeouts) -> None:
        self.server = server
        self.timeouts = timeouts
        self.parse = ResponseParser()
        self.open: set[Connection] = set()
        # Used as a stack, so that surplus connections become idle.
        self.idle: list[Connection] = []
        self._check_timer: asyncio.TimerHandle | None = None

    async def connect(self) -> Connection:
        """Open another connection.

        Raises:
            OSError: no address of the server can be reached, or its certificate is invalid.
        """
        self.loop = asyncio.get_running_loop()
        async with asyncio.timeout(min(_CONNECT_SECONDS, self.timeouts.response)):
            return await self._connect_to_any()

    async def _connect_to_any(self) -> Connection:
        server = self.server
        failure = OSError("the name has no address")
        for address in await server.addresses.in_turn():
            try:
                async with asyncio.timeout(_ADDRESS_SECONDS):
                    _, made = await self.loop.create_connection(
                        lambda: Connection(self, monotonic()),
                        address,
                        server.port,
                        ssl=server.tls,
                        server_hostname=server.name if server.tls else None,
                    )
            except OSError as error:
                server.addresses.exclude(address)
                failure = error
            else:
                if self._check_timer is None:
                    self._check()
                return made
        raise failure

    def close(self) -> None:
        """Close all connections; puts in flight end without a response."""
        for connection in list(self.open):
            connection.abort()

    def _check(self) -> None:
        """Check all connections, several times within the shortest timeout, while there are any."""
        now = monotonic()
        for connection in list(self.open):
            connection.check(now)
        period = min(self.timeouts.response, self.timeouts.idle) / 8
        self._check_timer = self.loop.call_later(period, self._check) if self.open else None
