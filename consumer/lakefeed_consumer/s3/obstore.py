"""S3 through obstore: puts, reads and lists."""

from __future__ import annotations

import html
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotModifiedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from lakefeed_common import aws_places
from lakefeed_consumer.object_store import NO_METADATA, ObjectExistsError, StoreRefusedError
from lakefeed_consumer.s3.credentials import CredentialProvider, find_credentials
from lakefeed_consumer.s3.errors import Failure, translate
from lakefeed_consumer.settings import ConsumerSettings

if TYPE_CHECKING:
    from obstore.store import ClientConfig

_ERRORS = (BaseError, OSError)
# Statuses that obstore has a type for; it raises Python's own error for a 404.
_STATUSES: dict[type[Exception], int] = {
    NotModifiedError: 304,
    UnauthenticatedError: 401,
    PermissionDeniedError: 403,
    FileNotFoundError: 404,
    AlreadyExistsError: 409,
    PreconditionError: 412,
}
# Everything else of a response is only in the text of an error: status, body, and why there is none.
_STATUS = re.compile(r"status code: (\d{3})")
_REDIRECT = "Received redirect without LOCATION"
_CODE = re.compile(r"<Code>\s*([\w.-]+)\s*</Code>")
_MESSAGE = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)
_REGION = re.compile(r"<Region>([a-z0-9-]+)</Region>")
_KIND = re.compile(r"kind: (\w+)")
_DETAIL = re.compile(r'(?:message|error): "([^"]+)"')
# Attributes of a response that are not metadata.
_OTHER_ATTRIBUTES = {
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Type",
    "Storage-Class",
}


class ObstoreObjectStore:
    """`ObjectStore` of one bucket. obstore's own retries are off: the sink retries, and counts them.

    Attributes:
        credentials: the chain whose keys sign.
        place: the bucket's address.
    """

    def __init__(self, settings: ConsumerSettings) -> None:
        self.credentials = find_credentials(settings)
        self._provider = CredentialProvider(self.credentials)
        self._where = f"bucket {settings.bucket} at {aws_places.describe(settings, 's3')}"
        self.place = aws_places.bucket_place(settings.bucket, settings)
        options: ClientConfig = {
            "allow_http": True,
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=settings.put_timeout_seconds),
            "pool_max_idle_per_host": str(settings.puts_in_flight),
        }
        if self.place.ca_bundle:
            options["root_certificate"] = Path(self.place.ca_bundle).read_bytes()
        with _without_aws_variables():
            self._store = S3Store(
                settings.bucket,
                region=self.place.region,
                endpoint=self.place.endpoint(settings.bucket),
                virtual_hosted_style_request=self.place.virtual,
                # A bucket with a default Object Lock rejects a put without a checksum.
                checksum_algorithm="SHA256",
                credential_provider=self._provider,
                client_options=options,
                retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
            )

    async def create(self, key: str, body: bytes, metadata: Mapping[str, str] = NO_METADATA) -> None:
        """See `ObjectStore.create`; `If-None-Match: *` makes it conditional."""
        with self._translated_errors():
            try:
                await obstore.put_async(
                    self._store, key, body, attributes=dict(metadata), mode="create", use_multipart=False
                )
            except AlreadyExistsError:
                raise ObjectExistsError(key) from None

    async def read(self, key: str) -> bytes | None:
        """See `ObjectStore.read`."""
        with self._translated_errors():
            response = await self._get(key)
            return None if response is None else bytes(await response.bytes_async())

    async def metadata(self, key: str) -> dict[str, str] | None:
        """See `ObjectStore.metadata`."""
        with self._translated_errors():
            # Not HEAD: without a body its 404 does not say whether the object or the bucket is missing.
            response = await self._get(key)
            if response is None:
                return None
            return {
                name: value for name, value in response.attributes.items() if name not in _OTHER_ATTRIBUTES
            }

    async def _get(self, key: str) -> obstore.GetResult | None:
        try:
            return await obstore.get_async(self._store, key)
        except FileNotFoundError as error:
            if _code(str(error)) == "NoSuchKey":  # and not NoSuchBucket
                return None
            raise

    async def keys(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """See `ObjectStore.keys`; one page of keys at a time is in memory."""
        with self._translated_errors():
            async for page in obstore.list(self._store, prefix, offset=after or None):
                for entry in page:
                    yield entry["path"]

    async def check(self) -> None:
        """See `ObjectStore.check`; needs the right to list the bucket."""
        with self._translated_errors():
            await obstore.list_with_delimiter_async(self._store, "lakefeed-check")

    async def close(self) -> None:
        """See `ObjectStore.close`; obstore closes its connections itself."""

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except _ERRORS as error:
            unusable = self._provider.failure
            if isinstance(error, UnauthenticatedError) and unusable is not None:
                raise StoreRefusedError(f"{self._where}: {unusable}.") from error
            raise translate(self._failure(error), self._where) from error

    def _failure(self, error: Exception) -> Failure:
        text = str(error)
        region = _REGION.search(text)
        kind, detail = _KIND.search(text), _DETAIL.search(text)
        return Failure(
            status=_status(error, text),
            code=_code(text),
            message=_message(text),
            region=region[1] if region and region[1] != self.place.region else "",
            no_response="other" if kind is None else "timeout" if "kind: Timeout" in text else "connection",
            detail=detail[1] if detail else "",
        )


def _status(error: Exception, text: str) -> int:
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            return status
    if _REDIRECT in text:
        return 301
    status_in_text = _STATUS.search(text)
    return int(status_in_text[1]) if status_in_text else 0


def _code(text: str) -> str:
    code = _CODE.search(text)
    return code[1] if code else ""


def _message(text: str) -> str:
    message = _MESSAGE.search(text)
    return html.unescape(message[1]) if message else ""


@contextmanager
def _without_aws_variables() -> Iterator[None]:
    """Hide AWS's variables: obstore reads them too, and some take precedence over its arguments."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.upper().startswith("AWS_")}
    try:
        yield
    finally:
        os.environ.update(hidden)
