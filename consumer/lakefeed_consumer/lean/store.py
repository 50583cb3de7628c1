"""The lean client as an `ObjectStore`: it creates objects, and leaves the rest and every doubt to obstore."""

from __future__ import annotations

import asyncio
import logging
import ssl
import urllib.request
from collections.abc import AsyncIterator
from time import monotonic, time
from urllib.parse import urlsplit

from lakefeed_consumer.lean.addresses import Addresses
from lakefeed_consumer.lean.answers import Answer, doubtful
from lakefeed_consumer.lean.connections import Connections
from lakefeed_consumer.lean.credentials import RenewedKeys
from lakefeed_consumer.lean.signing import Signer, request_path
from lakefeed_consumer.object_store import (
    ObjectExistsError,
    ObjectStore,
    StoreRefusedError,
    StoreUnavailableError,
)
from lakefeed_consumer.s3 import S3ObjectStore
from lakefeed_consumer.settings import ConsumerSettings

log = logging.getLogger(__name__)

# After a connection that could not be opened, or an object that is there already.
_REST_SECONDS = 1.0
_TELL_EVERY_SECONDS = 60.0
_PRECONDITION_FAILED = 412
_BY_ITS_NAME = doubtful("not tried: clients write this object's name in different ways")
_NO_KEYS = doubtful("not tried: there are no keys that can be trusted")
_RESTING = doubtful("not tried: a moment ago it was in vain, or obstore fails")


def open_store(settings: ConsumerSettings) -> ObjectStore:
    """The client that `LAKEFEED_S3_CLIENT` chooses; obstore alone where a proxy leads to the server.

    Raises:
        StoreRefusedError: there are no AWS credentials.
    """
    store = S3ObjectStore(settings)
    if settings.s3_client == "obstore":
        return store
    server = urlsplit(store.place.url)
    proxied = {server.scheme, "all"} & urllib.request.getproxies().keys()
    if proxied and not urllib.request.proxy_bypass(server.netloc):
        log.info("objects are put by obstore: a proxy leads to %s", server.hostname)
        return store
    return LeanObjectStore(settings, store)


class LeanObjectStore:
    """`ObjectStore` that puts at the cost of little more than its bytes.

    A put that is not stored beyond doubt is handed over: the other client tries it again, and its error or
    success counts. One that was stored all the same is then found there, with the same body.

    Args:
        fallback: of the same bucket. While it fails, it alone is asked: a server in trouble is not asked
            twice.
    """

    def __init__(self, settings: ConsumerSettings, fallback: S3ObjectStore) -> None:
        url = urlsplit(fallback.place.url)
        port = url.port or (443 if url.scheme == "https" else 80)
        name = url.hostname or ""
        tls = ssl.create_default_context(cafile=fallback.place.ca_bundle) if url.scheme == "https" else None
        self._fallback = fallback
        self._keys = RenewedKeys(fallback.credentials)
        self._signer = Signer(host_header(url.netloc, url.scheme), url.path, fallback.place.region)
        self._connections = Connections(
            Addresses(name, port),
            port,
            tls=tls,
            name=name,
            timeout=settings.put_timeout_seconds,
        )
        self._fallback_fails = False
        self._rest_until = float("-inf")
        self._tell_at = float("-inf")
        self._handed_over = 0

    async def create(self, key: str, body: bytes) -> None:
        """See `ObjectStore.create`."""
        now = monotonic()
        path, keys = request_path(key), self._keys.current(now)
        if path is None or keys is None or self._fallback_fails or now < self._rest_until:
            why = _BY_ITS_NAME if path is None else _NO_KEYS if keys is None else _RESTING
            await self._hand_over(key, body, why)
            return
        head = self._signer.head(path, body, keys, time())
        if self._connections.idle:
            answer = await self._connections.idle.pop().put(head + body, now)
        else:
            answer = await self._connect_and_put(head + body)
        if not answer.stored:
            await self._hand_over(key, body, answer)

    async def _connect_and_put(self, request: bytes) -> Answer:
        try:
            connection = await self._connections.connect()
        except (OSError, UnicodeError) as error:
            self._rest_until = monotonic() + _REST_SECONDS
            return doubtful(f"cannot connect ({error})")
        return await connection.put(request, monotonic())

    async def _hand_over(self, key: str, body: bytes, answer: Answer) -> None:
        if answer.status in (400, 401, 403):
            self._keys.look_again()
        elif answer.status == _PRECONDITION_FAILED:
            # Events that are read again come in thousands, and obstore needs no new connection for each.
            self._rest_until = monotonic() + _REST_SECONDS
        self._tell(answer.doubt)
        try:
            await self._fallback.create(key, body)
        except (StoreUnavailableError, StoreRefusedError):
            self._fallback_fails = True
            raise
        except ObjectExistsError:
            self._fallback_fails = False
            raise
        self._fallback_fails = False

    def _tell(self, doubt: str) -> None:
        """One line a minute, however many puts are handed over."""
        self._handed_over += 1
        now = monotonic()
        if now >= self._tell_at:
            log.info("puts left to obstore: %d so far; the last: %s", self._handed_over, doubt)
            self._tell_at = now + _TELL_EVERY_SECONDS

    async def read(self, key: str) -> bytes | None:
        """See `ObjectStore.read`."""
        return await self._fallback.read(key)

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
        # Closed connections tell so in the event loop's next round.
        await asyncio.sleep(0)


def host_header(netloc: str, scheme: str) -> str:
    """The `Host` header: without a user's name, and without the scheme's own port."""
    return netloc.rpartition("@")[2].removesuffix(":443" if scheme == "https" else ":80")
