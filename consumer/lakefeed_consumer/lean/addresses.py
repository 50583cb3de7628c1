"""The addresses of a server's name: all of them take connections in turn."""

from __future__ import annotations

import asyncio
import socket
from time import monotonic

# After a name service that did not answer.
_REST_SECONDS = 1.0


class Addresses:
    """What a name leads to, asked anew from time to time.

    Args:
        every: how long an answer of the name service is good, in seconds.
    """

    def __init__(self, host: str, port: int, *, every: float = 30.0) -> None:
        self._host = host
        self._port = port
        self._every = every
        self._known: list[str] = []
        self._ask_at = float("-inf")
        self._failure = ""
        self._next = 0
        self._asking = asyncio.Lock()

    async def in_turn(self) -> list[str]:
        """All addresses; each call begins with another one.

        Raises:
            OSError: the name is not known, or the name service is away.
        """
        async with self._asking:
            if monotonic() >= self._ask_at:
                await self._ask()
        if not self._known:
            raise OSError(self._failure)
        self._next += 1
        start = self._next % len(self._known)
        return self._known[start:] + self._known[:start]

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            # What is known stays good, and all who wait behind this one get the same answer.
            self._failure = str(error)
            self._ask_at = monotonic() + _REST_SECONDS
        else:
            self._known = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
            self._ask_at = monotonic() + self._every

    def leave_out(self, address: str) -> None:
        """Until the name is asked for again: nobody listens there. With none left it is asked for at once."""
        if address in self._known:
            self._known.remove(address)
        if not self._known:
            self._ask_at = float("-inf")
