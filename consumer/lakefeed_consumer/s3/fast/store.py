"""The fast client as an `ObjectStore`: it creates objects, and leaves everything else to obstore."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from time import monotonic, time
from urllib.parse import urlsplit

from lakefeed_consumer.object_store import (
    NO_METADATA,
    ObjectExistsError,
    StoreRefusedError,
    StoreUnavailableError,
)
from lakefeed_consumer.s3.fast.addresses import Addresses
from lakefeed_consumer.s3.fast.connections import Connections, Server, Timeouts
from lakefeed_consumer.s3.fast.credentials import RefreshedKeys
from lakefeed_consumer.s3.fast.responses import PutResult, unconfirmed
from lakefeed_consumer.s3.fast.signing import Signer, request_path
from lakefeed_consumer.s3.obstore import ObstoreObjectStore
from lakefeed_consumer.settings import ConsumerSettings

log = logging.getLogger(__name__)

# After a connection that could not be opened, or an object that exists already.
_PAUSE_SECONDS = 1.0
_LOG_EVERY_SECONDS = 60.0
_PRECONDITION_FAILED = 412
_AMBIGUOUS_KEY = unconfirmed("not tried: clients encode this object's key differently")
_NO_KEYS = unconfirmed("not tried: there are no AWS credentials that can be trusted")
_PAUSED = unconfirmed("not tried: the last put was not confirmed, or obstore fails")


class FastObjectStore:
    """`ObjectStore` whose puts cost little more than their bytes.

    A put that is not confirmed is passed on: obstore sends it again, and its error or success counts. If the
    first request had created the object after all, obstore finds it there, with the same body.

    Args:
        fallback: obstore's client of the same bucket. While it fails, it alone is used: a server in trouble
            does not get each request twice.
    """

    def __init__(self, settings: ConsumerSettings, fallback: ObstoreObjectStore) -> None:
        url = urlsplit(fallback.place.url)
        port = url.port or (443 if url.scheme == "https" else 80)
        name = url.hostname or ""
        tls = ssl.create_default_context(cafile=fallback.place.ca_bundle) if url.scheme == "https" else None
        self._fallback = fallback
        self._keys = RefreshedKeys(fallback.credentials)
        self._signer = Signer(host_header(url.netloc, url.scheme), url.path, fallback.place.region)
        self._connections = Connections(
            Server(Addresses(name, port), port, name, tls), Timeouts(response=settings.put_timeout_seconds)
        )
        self._fallback_fails = False
        self._paused_until = float("-inf")
        self._log_at = float("-inf")
        self._passed_on = 0

    async def create(self, key: str, body: bytes, metadata: Mapping[str, str] = NO_METADATA) -> None:
        """See `ObjectStore.create`."""
        now = monotonic()
        path, keys = request_path(key), self._keys.current(now)
        if path is None or keys is None or self._fallback_fails or now < self._paused_until:
            reason = _AMBIGUOUS_KEY if path is None else _NO_KEYS if keys is None else _PAUSED
            await self._pass_on(reason, key, body, metadata)
            return
        header = self._signer.header(path, body, metadata, keys, time())
        if self._connections.idle:
            result = await self._connections.idle.pop().put(header + body, now)
        else:
            result = await self._connect_and_put(header + body)
        if not result.stored:
            await self._pass_on(result, key, body, metadata)

    async def _connect_and_put(self, request: bytes) -> PutResult:
        try:
            connection = await self._connections.connect()
        except (OSError, UnicodeError) as error:
            self._paused_until = monotonic() + _PAUSE_SECONDS
            return unconfirmed(f"cannot connect ({error})")
        return await connection.put(request, monotonic())

    async def _pass_on(self, result: PutResult, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        if result.status in (400, 401, 403):
            self._keys.refresh()
        elif result.status == _PRECONDITION_FAILED:
            # Events that are read again come in thousands, and obstore needs no new connection for each.
            self._paused_until = monotonic() + _PAUSE_SECONDS
        self._log(result.reason)
        try:
            await self._fallback.create(key, body, metadata)
        except (StoreUnavailableError, StoreRefusedError):
            self._fallback_fails = True
            raise
        except ObjectExistsError:
            self._fallback_fails = False
            raise
        self._fallback_fails = False

    def _log(self, reason: str) -> None:
        """Log one line a minute, however many puts are passed on."""
        self._passed_on += 1
        now = monotonic()
        if now >= self._log_at:
            log.info("Puts passed on to obstore so far: %d; the last one: %s", self._passed_on, reason)
            self._log_at = now + _LOG_EVERY_SECONDS

    async def read(self, key: str) -> bytes | None:
        """See `ObjectStore.read`."""
        return await self._fallback.read(key)

    async def metadata(self, key: str) -> dict[str, str] | None:
        """See `ObjectStore.metadata`."""
        return await self._fallback.metadata(key)

    def keys(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """See `ObjectStore.keys`."""
        return self._fallback.keys(prefix, after)

    async def check(self) -> None:
        """See `ObjectStore.check`."""
        await self._fallback.check()

    async def close(self) -> None:
        """See `ObjectStore.close`."""
        self._keys.close()
        self._connections.close()
        # Closed connections report it in the event loop's next iteration.
        await asyncio.sleep(0)


def host_header(netloc: str, scheme: str) -> str:
    """The `Host` header: without a user's name, and without the scheme's default port."""
    return netloc.rpartition("@")[2].removesuffix(":443" if scheme == "https" else ":80")
