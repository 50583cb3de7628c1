"""The seam to S3: a store that creates objects and never replaces one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from lakefeed_common.errors import RefusedError, UnavailableError


class ObjectExistsError(Exception):
    """There is an object under this key already; nothing was changed."""


class StoreUnavailableError(UnavailableError):
    """The store cannot do it now; `cause` is one of `metrics.RETRY_CAUSES`."""

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


class StoreRefusedError(RefusedError):
    """The store will not do it until somebody changes a setting, a right or the bucket."""

    cause = "refused"


class ObjectStore(Protocol):
    """What the consumer needs of a bucket. Every method may be called concurrently.

    Raises, every method:
        StoreUnavailableError: trying again later can help.
        StoreRefusedError: it cannot, before somebody mends the bucket or the credentials.
    """

    async def create(self, key: str, body: bytes) -> None:
        """Create an object, durably.

        Raises:
            ObjectExistsError: the key is taken, whatever its body.
        """

    async def read(self, key: str) -> bytes | None:
        """The body of an object; None when there is none."""

    def keys(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """Keys under `prefix` (whole parts between slashes) that sort behind `after`, in order of bytes."""

    async def check(self) -> None:
        """Return when the bucket can be reached with these credentials."""

    async def close(self) -> None:
        """Close its connections, after the last call has ended."""
