"""Keys of boto3's chain, refreshed in the background, so that no put waits for a service that renews them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from lakefeed_consumer.s3.fast.signing import Keys

if TYPE_CHECKING:
    from botocore.credentials import Credentials

log = logging.getLogger(__name__)


class RefreshedKeys:
    """The keys that sign now.

    Args:
        chain: asked for its keys, the first time immediately, later in a thread. botocore renews keys ten
            minutes before they expire.
        every: how often to ask, in seconds.
        trusted: how long to use the last keys while the chain returns none, in seconds.
    """

    def __init__(self, chain: Credentials, *, every: float = 10.0, trusted: float = 60.0) -> None:
        self._chain = chain
        self._every = every
        self._trusted = trusted
        self._keys: Keys | None = None
        self._valid_until = float("-inf")
        self._refresh_now = asyncio.Event()
        self._refreshing: asyncio.Task[None] | None = None
        self._refresh()

    def current(self, now: float) -> Keys | None:
        """The same object until they change; None if there are none that can be trusted.

        Args:
            now: of `time.monotonic`.
        """
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh_forever())
        return self._keys if now < self._valid_until else None

    def refresh(self) -> None:
        """Ask the chain now: a server has rejected these keys."""
        self._refresh_now.set()

    def close(self) -> None:
        """Stop refreshing."""
        if self._refreshing is not None:
            self._refreshing.cancel()

    async def _refresh_forever(self) -> None:
        # Also while nothing is put, so that the next put finds keys that can be trusted.
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._refresh_now.wait()
            self._refresh_now.clear()
            await asyncio.to_thread(self._refresh)

    def _refresh(self) -> None:
        try:
            found: Any = self._chain.get_frozen_credentials()
        except Exception as error:
            log.debug("The AWS credentials cannot be renewed: %s", error)
            return
        keys = Keys(found.access_key, found.secret_key, found.token)
        if keys != self._keys:
            self._keys = keys
        self._valid_until = monotonic() + self._trusted
