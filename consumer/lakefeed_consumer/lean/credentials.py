"""Keys of AWS's chain, looked at beside the puts, so that none waits for a service that renews them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from lakefeed_common import aws
from lakefeed_consumer.lean.signing import Keys

if TYPE_CHECKING:
    from botocore.credentials import Credentials

log = logging.getLogger(__name__)


class RenewedKeys:
    """The keys that sign now.

    Args:
        chain: asked for its keys, the first time at once, later in a thread. botocore renews those that
            expire ten minutes before they do.
        every: how often it is asked, in seconds.
        trusted: for how long keys are used while it gives none, in seconds.
    """

    def __init__(self, chain: Credentials, *, every: float = 10.0, trusted: float = 60.0) -> None:
        self._chain = chain
        self._every = every
        self._trusted = trusted
        self._keys: Keys | None = None
        self._good_until = float("-inf")
        self._again = asyncio.Event()
        self._renewing: asyncio.Task[None] | None = None
        self._look()

    def current(self, now: float) -> Keys | None:
        """The same object until they change; None when there are none that can be trusted.

        Args:
            now: of `time.monotonic`.
        """
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())
        return self._keys if now < self._good_until else None

    def look_again(self) -> None:
        """Ask anew at once: a server does not take these."""
        self._again.set()

    def close(self) -> None:
        """Ask no more."""
        if self._renewing is not None:
            self._renewing.cancel()

    async def _renew(self) -> None:
        # Also while nothing is put: the next put finds keys that can be trusted.
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._again.wait()
            self._again.clear()
            await asyncio.to_thread(self._look)

    def _look(self) -> None:
        try:
            found: Any = self._chain.get_frozen_credentials()
            if not all(aws.is_plain(each) for each in (found.access_key, found.secret_key, found.token)):
                raise ValueError("they have characters that no credential has")
        except Exception as error:
            log.debug("the AWS credentials cannot be renewed: %s", error)
            return
        keys = Keys(found.access_key, found.secret_key, found.token)
        if keys != self._keys:
            self._keys = keys
        self._good_until = monotonic() + self._trusted
