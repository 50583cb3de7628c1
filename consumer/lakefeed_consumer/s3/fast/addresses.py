"""The IP addresses of a server's name, which new connections use in turn."""

from __future__ import annotations

import asyncio
import socket
from time import monotonic

# After a failed lookup.
_PAUSE_SECONDS = 1.0


class Addresses:
    """What a name resolves to, looked up again from time to time.

    Args:
        every: how long a lookup is valid, in seconds.
    """

    def __init__(self, host: str, port: int, *, every: float = 30.0) -> None:
        self._host = host
        self._port = port
        self._every = every
        self._known: list[str] = []
        self._lookup_at = float("-inf")
        self._failure = ""
        self._next = 0
        self._lookup_lock = asyncio.Lock()

    async def in_turn(self) -> list[str]:
        """All addresses; each call starts with the next one.

        Raises:
            OSError: the name does not resolve, or the lookup failed.
        """
        async with self._lookup_lock:
            if monotonic() >= self._lookup_at:
                await self._lookup()
        if not self._known:
            raise OSError(self._failure)
        self._next += 1
        start = self._next % len(self._known)
        return self._known[start:] + self._known[:start]

    async def _lookup(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            # Known addresses stay valid, and all callers that wait for this lookup get the same result.
            self._failure = str(error)
            self._lookup_at = monotonic() + _PAUSE_SECONDS
        else:
            self._known = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
            self._lookup_at = monotonic() + self._every

    def exclude(self, address: str) -> None:
        """Skip an unreachable address until the next lookup, which is immediate if no address is left."""
        if address in self._known:
            self._known.remove(address)
        if not self._known:
            self._lookup_at = float("-inf")
