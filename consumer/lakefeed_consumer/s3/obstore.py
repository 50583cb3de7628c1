"""S3 through obstore: puts, reads and lists."""

from __future__ import annotations

import asyncio
import codecs
import os
import re
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import obstore
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotModifiedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from lakefeed_common import aws, aws_places
from lakefeed_common.answers import Answer, beginning, parse
from lakefeed_common.errors import LakefeedError
from lakefeed_consumer.object_store import NO_METADATA, ObjectExistsError, StoreRefusedError
from lakefeed_consumer.s3.credentials import CredentialProvider, find_credentials
from lakefeed_consumer.s3.errors import Failure, NoResponse, translate
from lakefeed_consumer.settings import ConsumerSettings

if TYPE_CHECKING:
    from obstore.store import ClientConfig

_ERRORS = (BaseError, OSError)
_ASK_SECONDS = 60.0
_TRUSTED = b"BEGIN TRUSTED CERTIFICATE"
_CHECKED = "lakefeed-check"
_BEGINNING = 2000  # bytes
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
_BODY = re.compile(r"status code: (\d{3})[^:\n]*: ?(.*)", re.DOTALL)
_DEBUG = "\n\nDebug source:"
_BARE_REDIRECT = "Received redirect without LOCATION"
_REDIRECTS = (301, 302, 307, 308)
# A response 200 that is not S3's.
_FOREIGN = ("Header missing from response", "Got invalid list response")
_CERTIFICATE = re.compile(r"InvalidCertificate\(\s*(?:Other\(\s*OtherError\(\s*)?(\w+?)(?:Context)?\b")
_CERTIFICATES = {
    "CaUsedAsEndEntity": "it is an authority's own, which obstore does not accept from a server; use one "
    "that the authority has signed",
    "Expired": "it has expired",
    "NotValidForName": "it is for another host name",
    "UnknownIssuer": "its authority is unknown",
}
_KIND = re.compile(r"kind: \w+")
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


class ForeignAnswerError(Exception):
    """An answer that is not S3's, with its body."""


class ObstoreObjectStore:
    """`ObjectStore` of one bucket. obstore's own retries are off: the sink retries, and counts them.

    Attributes:
        credentials: the chain whose keys sign.
        place: the bucket's address.
    """

    def __init__(self, settings: ConsumerSettings) -> None:
        self._settings = settings
        self.credentials = find_credentials(settings)
        self._provider = CredentialProvider(self.credentials)
        self._asking = asyncio.Lock()
        self._ask_at, self._answer = float("-inf"), Answer()
        self._where = f"bucket {settings.bucket} at {aws_places.describe(settings, 's3')}"
        self.place = aws_places.bucket_place(settings.bucket, settings)
        options: ClientConfig = {
            "allow_http": True,
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=settings.put_timeout_seconds),
            "pool_max_idle_per_host": str(settings.puts_in_flight),
        }
        if self.place.ca_bundle:
            options["root_certificate"] = _certificates(self.place.ca_bundle)
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
        async with self._translated_errors():
            try:
                await obstore.put_async(
                    self._store, key, body, attributes=dict(metadata), mode="create", use_multipart=False
                )
            except AlreadyExistsError:
                raise ObjectExistsError(key) from None

    async def read(self, key: str) -> bytes | None:
        """See `ObjectStore.read`."""
        async with self._translated_errors():
            response = await self._get(key)
            return None if response is None else bytes(await response.bytes_async())

    async def metadata(self, key: str) -> dict[str, str] | None:
        """See `ObjectStore.metadata`."""
        async with self._translated_errors():
            # Not HEAD: without a body its 404 does not say whether the object or the bucket is missing.
            response = await self._get(key)
            if response is None:
                return None
            return {
                name: value for name, value in response.attributes.items() if name not in _OTHER_ATTRIBUTES
            }

    async def _get(self, key: str) -> obstore.GetResult | None:
        try:
            found = await obstore.get_async(self._store, key)
        except FileNotFoundError as error:
            if _said(str(error)).code == "NoSuchKey":  # and not NoSuchBucket
                return None
            raise
        if found.meta["e_tag"] is None:
            body = await found.bytes_async()
            raise ForeignAnswerError(bytes(body)[:_BEGINNING].decode(errors="replace"))
        return found

    async def keys(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """See `ObjectStore.keys`; one page of keys at a time is in memory."""
        async with self._translated_errors():
            empty = True
            async for page in obstore.list(self._store, prefix, offset=after or None):
                for entry in page:
                    empty = False
                    yield entry["path"]
            if empty:
                await self._confirm_nothing(prefix)

    async def check(self) -> None:
        """See `ObjectStore.check`; needs the right to list the bucket."""
        async with self._translated_errors():
            await obstore.list_with_delimiter_async(self._store, _CHECKED)
            # Every role of a consumer may read there.
            await self._confirm_nothing(self._settings.dead_letter_prefix)

    async def _confirm_nothing(self, prefix: str) -> None:
        """Confirm that an empty list is S3's: obstore reads any page as one, but not as a missing object."""
        # A role may not be allowed to read everywhere, and says so.
        with suppress(PermissionDeniedError):
            await self._get(f"{prefix}/{_CHECKED}")

    async def close(self) -> None:
        """See `ObjectStore.close`; obstore closes its connections itself."""

    @asynccontextmanager
    async def _translated_errors(self) -> AsyncIterator[None]:
        try:
            yield
        except ForeignAnswerError as error:
            raise translate(Failure(200, message=beginning(str(error))), self._where) from None
        except _ERRORS as error:
            unusable = self._provider.failure
            if isinstance(error, UnauthenticatedError) and unusable is not None:
                raise StoreRefusedError(f"{self._where}: {unusable}.") from error
            raise translate(await self._failure(error), self._where) from error

    async def _failure(self, error: Exception) -> Failure:
        text = str(error)
        status, said = _status(error, text), _said(text)
        if status in _REDIRECTS or (status in (400, 403) and not said.code and not said.message):
            # obstore passes on neither headers nor the body of a redirect, which name the bucket's region.
            said = await self._asked_again()
        foreign = any(each in text for each in _FOREIGN)
        return Failure(
            status=200 if foreign else status,
            code=said.code,
            message=said.message,
            region=said.region if said.region != self.place.region else "",
            no_response=_no_response(text),
            detail=_detail(text),
        )

    async def _asked_again(self) -> Answer:
        """What boto3 is answered, asked once a minute however many requests fail."""
        async with self._asking:
            if monotonic() >= self._ask_at:
                self._answer = await asyncio.to_thread(self._ask_boto3)
                self._ask_at = monotonic() + _ASK_SECONDS
        return self._answer

    def _ask_boto3(self) -> Answer:
        """Code, message and region that boto3 gets from this server for a list."""
        try:
            with closing(aws.client("s3", self._settings, attempts=1)) as s3:
                response: Any = s3.list_objects_v2(Bucket=self._settings.bucket, Prefix=_CHECKED, MaxKeys=1)
        except ClientError as error:
            response = error.response
        except (BotoCoreError, ResponseParserError, LakefeedError):
            return Answer()
        said = response.get("Error", {})
        return Answer(
            str(said.get("Code", "")),
            str(said.get("Message", "")),
            aws.named_region(response, self._settings),
        )


def _no_response(text: str) -> NoResponse:
    if _CERTIFICATE.search(text):
        return "certificate"
    if "kind: Timeout" in text:
        return "timeout"
    return "connection" if _KIND.search(text) else "other"


def _detail(text: str) -> str:
    if certificate := _CERTIFICATE.search(text):
        return _CERTIFICATES.get(certificate[1], certificate[1])
    found = _DETAIL.search(text)
    return found[1] if found else ""


def _certificates(path: str) -> bytes:
    """The certificates of a PEM file that OpenSSL reads, in the one form that obstore reads."""
    content = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    if _TRUSTED not in content:
        return content
    found = ssl.create_default_context(cafile=path).get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode() or content


def _status(error: Exception, text: str) -> int:
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            return status
    if _BARE_REDIRECT in text:
        return 301
    found = _BODY.search(text)
    return int(found[1]) if found else 0


def _said(text: str) -> Answer:
    """What the body of an error says; it follows the status, and comes again in the debug output."""
    found = _BODY.search(text.partition(_DEBUG)[0])
    return parse(found[2]) if found else Answer()


@contextmanager
def _without_aws_variables() -> Iterator[None]:
    """Hide AWS's variables: obstore reads them too, and some take precedence over its arguments."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.upper().startswith("AWS_")}
    try:
        yield
    finally:
        os.environ.update(hidden)
