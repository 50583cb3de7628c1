"""S3 through obstore, with conditional puts."""

from __future__ import annotations

import html
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from lakefeed_common import aws, aws_places
from lakefeed_consumer.object_store import ObjectExistsError, StoreRefusedError, StoreUnavailableError
from lakefeed_consumer.settings import ConsumerSettings

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from obstore.store import ClientConfig, S3Credential

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>\s*([\w.-]+)\s*</Code>")
_MESSAGE = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)
_REGION = re.compile(r"<Region>([a-z0-9-]+)</Region>")
# A reason must not change with each object, nor with each try.
_OBJECT = re.compile(r"(arn:aws[\w-]*:s3:::[^/\s\"']+/)[^\s\"']+")
_DETAIL = re.compile(r'(?:message|error): "([^"]+)"')
_NO_CREDENTIALS = re.compile(r"credential provider: (\w+)")
_TRANSIENT_CODES = {
    "RequestTimeout",
    "OperationAborted",
    "ConditionalRequestConflict",
}
_THROTTLING = re.compile(r"Throttl|SlowDown|TooManyRequests|RequestLimitExceeded|BandwidthLimitExceeded")
_CREDENTIAL_CODES = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "",
}
_DENIED_CODES = {"AccessDenied", "AllAccessDisabled", "AccountProblem"}
_SOURCES = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role."


_NOT_IMPLEMENTED = 501
_LONGEST_MESSAGE = 500


class S3ObjectStore:
    """`ObjectStore` of one bucket. obstore's own retries are off: the sink's are counted.

    Attributes:
        credentials: the chain that signs.
        place: where the bucket is.
    """

    def __init__(self, settings: ConsumerSettings) -> None:
        self.credentials = _find_credentials(settings)
        self._bucket = settings.bucket
        self._where = aws_places.describe(settings, "s3")
        self.place = _place(settings)
        options: ClientConfig = {
            "allow_http": True,
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=settings.put_timeout_seconds),
            "pool_max_idle_per_host": str(settings.puts_in_flight),
        }
        if self.place.ca_bundle:
            options["root_certificate"] = Path(self.place.ca_bundle).read_bytes()
        with _without_obstores_own_variables():
            self._store = S3Store(
                settings.bucket,
                region=self.place.region,
                endpoint=self.place.endpoint(settings.bucket),
                virtual_hosted_style_request=self.place.virtual,
                # A bucket with a default Object Lock takes no put without one.
                checksum_algorithm="SHA256",
                credential_provider=_provider(self.credentials),
                client_options=options,
                retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
            )

    async def create(self, key: str, body: bytes) -> None:
        """See `ObjectStore.create`; `If-None-Match: *` makes it conditional."""
        try:
            await obstore.put_async(self._store, key, body, mode="create", use_multipart=False)
        except AlreadyExistsError:
            raise ObjectExistsError(key) from None
        except _FAILURES as error:
            raise self._explain(error) from error

    async def read(self, key: str) -> bytes | None:
        """See `ObjectStore.read`."""
        try:
            answer = await obstore.get_async(self._store, key)
            return bytes(await answer.bytes_async())
        except _FAILURES as error:
            if _code(error) == "NoSuchKey":
                return None
            raise self._explain(error) from error

    async def keys(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """See `ObjectStore.keys`; a page of keys at a time is in memory."""
        try:
            async for page in obstore.list(self._store, prefix, offset=after or None):
                for entry in page:
                    yield entry["path"]
        except _FAILURES as error:
            raise self._explain(error) from error

    async def check(self) -> None:
        """See `ObjectStore.check`; wants the right to list the bucket."""
        try:
            await obstore.list_with_delimiter_async(self._store, "lakefeed-check")
        except _FAILURES as error:
            raise self._explain(error) from error

    async def close(self) -> None:
        """See `ObjectStore.close`; obstore ends its connections by itself."""

    def _explain(self, error: Exception) -> StoreUnavailableError | StoreRefusedError:
        """Translate an error of obstore, which gives S3's answer only as text.

        The message names no key: it is the reason of a state and must not change with each put.
        """
        text, code = str(error), _code(error)
        found = _STATUS.search(text)
        status = int(found[1]) if found else 0
        where = f"bucket {self._bucket} at {self._where}"
        if code == "NoSuchBucket":
            return StoreRefusedError(f"{where}: there is no such bucket. Create it or set LAKEFEED_BUCKET.")
        if (region := _REGION.search(text)) and region[1] != self.place.region:
            return StoreRefusedError(
                f"{where}: refused with {code}: the bucket is in {region[1]}. Set AWS_REGION={region[1]}."
            )
        if "redirect" in text:
            return StoreRefusedError(f"{where}: the bucket is in another region. Set AWS_REGION.")
        if provider := _NO_CREDENTIALS.search(text):
            return StoreRefusedError(
                f"{where}: the AWS credentials cannot be renewed ({provider[1]}). {_SOURCES}"
            )
        if code == "RequestTimeTooSkewed":
            return StoreUnavailableError(f"{where}: answered {code}. Set the clock of this machine.", "other")
        said = _said(text)
        if status == _NOT_IMPLEMENTED:
            return StoreRefusedError(
                f"{where}: answered 501 {code}{said}. This store cannot create an object only where there is "
                "none (If-None-Match: *), so it cannot promise that no event is replaced. Use another "
                "store."
            )
        throttled = status in (429, 503) or (status >= 400 and _THROTTLING.search(code))
        refused = isinstance(error, PermissionDeniedError | UnauthenticatedError) or 400 <= status < 500
        if refused and not throttled and code not in _TRANSIENT_CODES:
            answer = code or status or type(error).__name__
            return StoreRefusedError(f"{where}: refused with {answer}{said}.{_advice(code, status)}")
        if status:
            cause = "slow_down" if throttled else "server_error" if status >= 500 else "other"
            return StoreUnavailableError(f"{where}: answered {status} {code}{said}", cause)
        cause = "timeout" if "kind: Timeout" in text else "connection" if "kind: " in text else "other"
        detail = _DETAIL.search(text)
        return StoreUnavailableError(f"{where}: no answer ({detail[1] if detail else cause})", cause)


def _said(text: str) -> str:
    """S3's own message, behind a colon, without what differs from object to object."""
    found = _MESSAGE.search(text)
    if found is None:
        return ""
    message = _OBJECT.sub(r"\1*", " ".join(html.unescape(found[1]).split())).rstrip(".")
    return f": {message[:_LONGEST_MESSAGE]}" if message else ""


def _advice(code: str, status: int) -> str:
    if code.startswith("KMS."):
        return " Check the KMS key that the bucket encrypts with."
    if code in _DENIED_CODES:
        return " Check the rights of the AWS credentials' role, the bucket's policy and its KMS key."
    if code in _CREDENTIAL_CODES and (code or status in (0, 400, 401, 403)):
        return " Check the AWS credentials and the rights of their role."
    return ""


def _place(settings: ConsumerSettings) -> aws_places.BucketPlace:
    try:
        return aws_places.bucket_place(settings.bucket, settings)
    except BotoCoreError as error:
        raise StoreRefusedError(f"bucket {settings.bucket}: its address cannot be told ({error})") from error


@contextmanager
def _without_obstores_own_variables() -> Iterator[None]:
    """obstore reads variables of its own, and some of them count more than what it is given."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.upper().startswith("AWS_")}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _find_credentials(settings: ConsumerSettings) -> Credentials:
    """What boto3's chain finds, renewed as `aws.session` says.

    Raises:
        StoreRefusedError: the chain has none.
    """
    try:
        found = aws.session(settings).get_credentials()
    except BotoCoreError as error:
        raise StoreRefusedError(f"there are no AWS credentials ({error}). {_SOURCES}") from error
    if found is None:
        raise StoreRefusedError(f"there are no AWS credentials. {_SOURCES}")
    # Keys that cannot be had now may come later; the puts say so until then.
    with suppress(BotoCoreError, ClientError):
        check_keys(found.get_frozen_credentials(), found.method)
    return found


def check_keys(frozen: Any, source: str) -> None:
    """Notice keys that no HTTP header can carry, before obstore or a server does.

    Raises:
        StoreRefusedError: which part of them, and where they come from.
    """
    for name in ("access_key", "secret_key", "token"):
        if not aws.is_plain(getattr(frozen, name)):
            raise StoreRefusedError(
                f"the AWS credentials of {source}: the {name.replace('_', ' ')} has a line break, a space or "
                "another character in it that no credential has. Set it again without."
            )


def _provider(credentials: Credentials) -> Callable[[], S3Credential]:
    """obstore's credential provider."""

    def keys() -> S3Credential:
        frozen: Any = credentials.get_frozen_credentials()
        check_keys(frozen, credentials.method)
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            # obstore asks again some time before this.
            "expires_at": datetime.now(UTC) + timedelta(minutes=1),
        }

    return keys


def _code(error: Exception) -> str:
    found = _CODE.search(str(error))
    return found[1] if found else ""


_FAILURES = (BaseError, OSError, BotoCoreError, ClientError)
