"""The interface to S3: a store that creates objects and never replaces one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from lakefeed_common.errors import RefusedError, UnavailableError


class ObjectExistsError(Exception):
    """The key has an object already; nothing was changed."""


class StoreUnavailableError(UnavailableError):
    """The store is unavailable; a retry can succeed. `cause` is one of `metrics.RETRY_CAUSES`."""

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


class StoreRefusedError(RefusedError):
    """The store refuses until a user changes a setting, a permission or the bucket."""

    cause = "refused"


class ObjectStore(Protocol):
    """What the consumer needs of a bucket. Every method may be called concurrently.

    Raises, every method:
        StoreUnavailableError: a retry can succeed.
        StoreRefusedError: it cannot, until a user fixes the bucket or the credentials.
    """

    async def create(self, key: str, body: bytes) -> None:
        """Create an object, durably.

        Raises:
            ObjectExistsError: the key has an object, whatever its body.
        """

    async def read(self, key: str) -> bytes | None:
        """The body of an object; None if there is no object."""

    def keys(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """Keys under `prefix` (whole parts between slashes) that sort after `after`, in byte order."""

    async def check(self) -> None:
        """Return if the bucket can be reached with these credentials."""

    async def close(self) -> None:
        """Close all connections, after the last call has ended."""
