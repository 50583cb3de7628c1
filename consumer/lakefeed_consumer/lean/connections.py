"""Persistent connections to a server, one put in flight on each."""

from __future__ import annotations

import asyncio
import random
import ssl
from time import monotonic

from lakefeed_consumer.lean.addresses import Addresses
from lakefeed_consumer.lean.answers import Answer, Judge, doubtful

# For one address, and for a connection in all.
_ADDRESS_SECONDS = 2.0
_CONNECT_SECONDS = 5.0


class Connection(asyncio.Protocol):
    """One connection: idle, or waiting for the answer to a put.

    Attributes:
        since: when the put was sent or the connection became idle, by `time.monotonic`.
    """

    def __init__(self, pool: Connections, now: float) -> None:
        self._pool = pool
        self._waiting: asyncio.Future[Answer] | None = None
        self._received = b""
        self.since = now
        # Not all at the same time, when all were opened at the same time.
        self.replace_at = now + pool.age * random.uniform(0.8, 1.2)  # noqa: S311  # no secret

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._pool.open.add(self)

    def put(self, request: bytes, now: float) -> asyncio.Future[Answer]:
        """Send a whole request; the answer always comes, if only to say that none came."""
        self._waiting = waiting = self._pool.loop.create_future()
        self.since = now
        self._transport.write(request)
        return waiting

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._received:
            data = self._received + data
        # What comes while nothing was asked belongs to no put.
        answer = self._pool.judge(data) if self._waiting is not None else doubtful("an answer to nothing")
        if answer is None:
            self._received = data
        else:
            self._received = b""
            self._end(answer)

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._pool.open.discard(self)
        self._end(doubtful(f"connection lost ({error or 'closed by the server'})"))

    def _end(self, answer: Answer) -> None:
        waiting, self._waiting = self._waiting, None
        now = monotonic()
        if answer.reusable and now < self.replace_at:
            self.since = now
            self._pool.idle.append(self)
        else:
            self.abort()
        # Who asked may have been cancelled.
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def abort(self) -> None:
        """Close it at once."""
        if self in self._pool.idle:
            self._pool.idle.remove(self)
        self._transport.abort()

    def check(self, now: float) -> None:
        """Give up a put without an answer, and close what was idle for so long that the server may do so."""
        if self._waiting is None:
            if now - self.since >= self._pool.idle_seconds:
                self.abort()
        elif now - self.since >= self._pool.timeout:
            self._end(doubtful("no answer in time"))


class Connections:
    """The connections to one server: a new one is opened when none is idle, and there are as many as puts.

    Args:
        addresses: of the server.
        port: the same at all of them.
        tls: what checks its certificate; None for plain HTTP.
        name: whose certificate it must be.
        timeout: how long an answer is waited for, in seconds.
        idle_seconds: of an unused connection. Servers close theirs after 5 s or more.
        age: of a connection, in seconds; about then it is replaced, perhaps by one to another address.
    """

    def __init__(
        self,
        addresses: Addresses,
        port: int,
        *,
        tls: ssl.SSLContext | None,
        name: str,
        timeout: float,
        idle_seconds: float = 3.0,
        age: float = 300.0,
    ) -> None:
        self._addresses = addresses
        self._port = port
        self._tls = tls
        self._name = name
        self.timeout = timeout
        self.idle_seconds = idle_seconds
        self.age = age
        self.judge = Judge()
        self.open: set[Connection] = set()
        # The one used last comes first, so that those which are too many grow old.
        self.idle: list[Connection] = []
        self._checking: asyncio.TimerHandle | None = None

    async def connect(self) -> Connection:
        """Open another connection.

        Raises:
            OSError: no address of the server can be reached, or its certificate is wrong.
        """
        self.loop = asyncio.get_running_loop()
        async with asyncio.timeout(min(_CONNECT_SECONDS, self.timeout)):
            return await self._connect_to_any()

    async def _connect_to_any(self) -> Connection:
        failure = OSError("the name has no address")
        for address in await self._addresses.in_turn():
            try:
                async with asyncio.timeout(_ADDRESS_SECONDS):
                    _, made = await self.loop.create_connection(
                        lambda: Connection(self, monotonic()),
                        address,
                        self._port,
                        ssl=self._tls,
                        server_hostname=self._name if self._tls else None,
                    )
            except OSError as error:
                self._addresses.leave_out(address)
                failure = error
            else:
                if self._checking is None:
                    self._check()
                return made
        raise failure

    def close(self) -> None:
        """Close all; puts that wait are told that there was no answer."""
        for connection in list(self.open):
            connection.abort()

    def _check(self) -> None:
        """Look after all connections, several times within the shortest wait, as long as there are any."""
        now = monotonic()
        for connection in list(self.open):
            connection.check(now)
        period = min(self.timeout, self.idle_seconds) / 8
        self._checking = self.loop.call_later(period, self._check) if self.open else None
