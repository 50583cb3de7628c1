"""AWS clients for the control plane, and the translation of AWS's errors."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.config import Config
from botocore.credentials import CredentialProvider, RefreshableCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError

from lakefeed_common import aws_places
from lakefeed_common.errors import LakefeedError, MissingError, RefusedError, SettingsError, UnavailableError
from lakefeed_common.settings import AwsSettings

_MISSING = {
    "EntityNotFoundException",
    "NoSuchBucket",
    "NoSuchKey",
    "404",
    "ResourceNotFoundException",
}
_TRANSIENT = {
    "KMS.ThrottlingException",
    "RequestThrottled",
    "RequestThrottledException",
    "ThrottledException",
    "ConcurrentModificationException",
    "InternalError",
    "InternalServerException",
    "InternalServiceException",
    "OperationTimeoutException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
_CREDENTIALS = {
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
    # HeadBucket's responses have no body with details; expired credentials are a 400.
    "400",
    "403",
}
# Their messages contain the time, but a reason must not change with each attempt.
_CLOCK = {"InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed"}
_REQUEST_ID = re.compile(r";? *Request ID: *[\w-]+", re.IGNORECASE)
_CREDENTIAL_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
)
# One attempt is shorter than the time after which a silent work loop counts as stalled.
_CONNECT_SECONDS, _READ_SECONDS = 2, 22
_REREAD = timedelta(seconds=10)


class _FileProvider(CredentialProvider):
    """Credentials of a file, read again while running, so that new ones do not require a restart."""

    def __init__(self, file: CredentialProvider) -> None:
        super().__init__()
        self.METHOD = file.METHOD
        self.CANONICAL_NAME = file.CANONICAL_NAME
        self._file = file

    def load(self) -> RefreshableCredentials | None:
        """Load the credentials for botocore; None if the file has none."""
        if self._file.load() is None:
            return None
        return RefreshableCredentials.create_from_metadata(
            self._read(), self._read, self.METHOD, advisory_timeout=0, mandatory_timeout=0
        )

    def _read(self) -> dict[str, Any]:
        found = self._file.load()
        if found is None:
            raise NoCredentialsError
        for key in ("access_key", "secret_key", "token"):
            if not is_plain(getattr(found, key)):
                # botocore's own message about the invalid header would show the credential.
                raise UnusableCredentialsError(
                    provider=str(self.METHOD),
                    error_msg=f"the {key.replace('_', ' ')} of {self.METHOD} has a line break, a space or "
                    "another character in it that no credential has: write it again without",
                )
        return {
            "access_key": found.access_key,
            "secret_key": found.secret_key,
            "token": found.token,
            "expiry_time": (datetime.now(UTC) + _REREAD).isoformat(),
        }


def check_variables() -> None:
    """Check for credentials that are not valid in an HTTP header, which clients would send or crash on.

    Raises:
        SettingsError: names the variable, without its value.
    """
    for name in _CREDENTIAL_VARIABLES:
        value = os.environ.get(name, "")
        if not is_plain(value):
            raise SettingsError(
                f"{name} has a line break, a space or another character in it that no credential has. "
                "Set it again without; a file's last line break comes along with --from-file and cat"
            )


def is_plain(text: str | None) -> bool:
    """Whether a credential consists only of printable ASCII without spaces."""
    return text is None or (text.isascii() and text.isprintable() and " " not in text)


class UnusableCredentialsError(CredentialRetrievalError):
    """Configured credentials that cannot sign a request; the message gives the reason."""

    fmt = "{error_msg}"


def _no_prompt(profile: str) -> Callable[[str], str]:
    """A replacement for botocore's MFA prompt, which asks on the terminal at each attempt."""

    def refuse(_: str) -> str:
        raise UnusableCredentialsError(
            provider="assume-role",
            error_msg=f"the role of AWS_PROFILE={profile} requires an MFA code, which a service cannot "
            "prompt for. Get temporary credentials "
            f"(`aws configure export-credentials --profile {profile} --format env`) "
            "and set the AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN that it prints, "
            "without AWS_PROFILE; for longer periods, use a role that does not require MFA",
        )

    return refuse


def session(settings: AwsSettings) -> boto3.Session:
    """A session whose credentials are renewed: by botocore if they expire, or by reading their file again.

    It never prompts on the terminal.

    Raises:
        SettingsError: see `check_variables`.
    """
    check_variables()
    made = aws_places.new_session(settings.aws_region)
    resolver = made._session.get_component("credential_provider")
    roles = resolver.get_provider("assume-role")
    roles._prompter = _no_prompt(made.profile_name)
    resolver.providers = [
        _FileProvider(each) if each.METHOD in ("shared-credentials-file", "config-file") else each
        for each in resolver.providers
    ]
    return made


def client(
    service: str,
    settings: AwsSettings,
    *,
    attempt: Callable[[], None] = lambda: None,
    attempts: int = 4,
    connections: int = 10,
) -> Any:
    """A boto3 client of a service (`s3`, `glue`, `athena`) with bounded waits and retries.

    Args:
        service: its name.
        settings: region and endpoint.
        attempt: called before and after each attempt of a call, in the calling thread: a sign of progress,
            however often a call is retried and however many pages it has.
        attempts: the most that a call gets.
        connections: how many threads can call at the same time.

    Raises:
        SettingsError: a variable, an endpoint or a file of authorities cannot be used.
    """
    options: Any = Config(  # the stubs lack its attributes
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=connections,
    )
    opened = session(settings)
    arguments, place = aws_places.options(service, opened, settings)
    made = opened.client(
        service,  # type: ignore[call-overload]  # the name is a plain string here
        config=options.merge(place),
        **arguments,
    )

    def on_attempt(**_: Any) -> None:
        attempt()

    for event in ("before-send", "needs-retry"):
        made.meta.events.register(event, on_attempt)
    return made


def explain(
    error: BotoCoreError | ClientError, settings: AwsSettings, doing: str, *, service: str | None = None
) -> LakefeedError:
    """Translate an error of boto3; `doing` describes the operation, such as `starting the crawler x`.

    The message is stable while the cause is the same, so that it can be logged once.
    """
    where = aws_places.describe(settings, service)
    if isinstance(error, ClientError):
        code = str(error.response["Error"].get("Code", ""))
        if code in _CLOCK:
            return RefusedError(
                f"{doing}: {where} answered {code}. Set this machine's clock, or check the secret key."
            )
        reason = _REQUEST_ID.sub("", str(error.response["Error"].get("Message", "")))
        message = f"{doing}: {where} answered {code}: {reason}"
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region = headers.get("x-amz-bucket-region", settings.aws_region)
        if region != settings.aws_region:
            return RefusedError(f"{message}. The bucket is in {region}: set AWS_REGION={region}.")
        if code in _MISSING:
            return MissingError(message)
        if code in _CREDENTIALS:
            return RefusedError(f"{message}. Check the AWS credentials and the permissions of their role.")
        if code in _TRANSIENT or error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
            return UnavailableError(message)
        return RefusedError(message)
    if isinstance(error, UnusableCredentialsError):
        return RefusedError(f"{doing}: {error}.")
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError | SSOError):
        return RefusedError(
            f"{doing}: no AWS credentials ({error}). Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE, or give the machine a role."
        )
    if isinstance(error, BotoConnectionError | HTTPClientError):
        return UnavailableError(
            f"{doing}: {where} does not answer ({error}). Check AWS_ENDPOINT_URL and AWS_REGION."
        )
    return LakefeedError(f"{doing}: {error}")
