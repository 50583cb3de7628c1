"""The interface to S3: a store that creates objects and never replaces one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Protocol

from lakefeed_common.errors import RefusedError, UnavailableError

NO_METADATA: Mapping[str, str] = MappingProxyType({})


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

    async def create(self, key: str, body: bytes, metadata: Mapping[str, str] = NO_METADATA) -> None:
        """Create an object, durably.

        Args:
            key: a whole one.
            body: stored as it is, without a content type or encoding.
            metadata: names in lower case without `x-amz-meta-`, and values in ASCII, without line breaks or
                white space at their ends.

        Raises:
            ObjectExistsError: the key has an object, whatever its body.
        """

    async def read(self, key: str) -> bytes | None:
        """The body of an object; None if there is no object."""

    async def metadata(self, key: str) -> dict[str, str] | None:
        """The metadata of an object, as `create` takes it; None if there is no object."""

    def keys(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """Keys under `prefix` (whole parts between slashes) that sort after `after`, in byte order."""

    async def check(self) -> None:
        """Return if the bucket can be reached with these credentials."""

    async def close(self) -> None:
        """Close all connections, after the last call has ended."""
