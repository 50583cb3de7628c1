"""AWS clients for the control plane, and the translation of AWS's errors."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from json import JSONDecodeError
from typing import Any

import boto3
from botocore.config import Config
from botocore.credentials import (
    CredentialProvider,
    Credentials,
    ReadOnlyCredentials,
    RefreshableCredentials,
)
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    RefreshWithMFAUnsupportedError,
    SSLError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError
from botocore.tokens import TokenProviderChain

from lakefeed_common import answers, aws_places
from lakefeed_common.errors import LakefeedError, MissingError, RefusedError, SettingsError, UnavailableError
from lakefeed_common.settings import AwsSettings
from lakefeed_common.text import visible

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
_TOO_MANY = 429
_REDIRECTS = {301, 302, 303, 307, 308}
_ROOT = re.compile(rb"(?:<\?.*?\?>|<!--.*?-->|<!\w[^>]*>|\s)*<(?:[\w-]+:)?([\w-]+)", re.DOTALL)
_BEGINNING = 2000  # bytes
_LONGEST_REASON = 500
_CREDENTIAL_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
)
CREDENTIAL_SOURCES = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role"
)
_CONTAINER_VARIABLES = (
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
)
# By botocore's names of the providers; all others read the profile, where some have an option of their own.
_SOURCES = {
    "env": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "iam-role": "the EC2 instance's role",
    "boto-config": "the Boto2 config file",
    "ec2-credentials-file": "AWS_CREDENTIAL_FILE",
}
_OPTIONS = {
    "assume-role": "role_arn",
    "assume-role-with-web-identity": "web_identity_token_file",
    "custom-process": "credential_process",
    "login": "login_session",
    "sso": "sso_session",
}
# One attempt is shorter than the time after which a silent work loop counts as stalled.
_CONNECT_SECONDS, _READ_SECONDS = 2, 22
_REREAD = timedelta(seconds=10)


class UnusableCredentialsError(CredentialRetrievalError):
    """No credentials can sign a request; the message gives their source, the reason and advice."""

    fmt = "{error_msg}"


class ForeignAnswerError(BotoCoreError):
    """An answer with status 200 that is not AWS's, such as the login page of a proxy."""

    fmt = "the response is not from AWS ({beginning}). Check AWS_ENDPOINT_URL and proxies"


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
        return {
            "access_key": found.access_key,
            "secret_key": found.secret_key,
            "token": found.token,
            "expiry_time": (datetime.now(UTC) + _REREAD).isoformat(),
        }


class _ChainCredentials(Credentials):
    """What AWS's chain finds when a request is signed, renewed by botocore or by reading its file again.

    After a failure, the chain and its configuration are loaded again, so that a correction does not require a
    restart.
    """

    method = "chain"

    def __init__(self, region: str) -> None:
        self._region = region
        self._found: Credentials | None = None
        self._source = ""
        self._lock = threading.Lock()

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """The credentials that sign now.

        Raises:
            UnusableCredentialsError: there are none, or they cannot be used, whatever botocore raised.
            SettingsError: see `check_variables` and `aws_places.new_session`.
        """
        try:
            with self._lock:
                found = self._found = self._found or self._load()
            frozen = found.get_frozen_credentials()
            self._check(frozen)
        except Exception as error:
            self._found = None
            if isinstance(error, LakefeedError | UnusableCredentialsError):
                raise
            raise UnusableCredentialsError(error_msg=_why_unusable(error, self._source)) from error
        return frozen

    def _check(self, frozen: ReadOnlyCredentials) -> None:
        for name in ("access_key", "secret_key", "token"):
            if not is_plain(getattr(frozen, name)):
                # botocore's own message about the invalid header would show the credential.
                raise UnusableCredentialsError(
                    error_msg=f"the AWS credentials of {self._source}: the {name.replace('_', ' ')} has a "
                    "line break, a space or another character in it that no credential has. Set it again "
                    "without"
                )

    def _load(self) -> Credentials:
        check_variables()
        made = aws_places.new_session(self._region)
        resolver = made._session.get_component("credential_provider")
        resolver.get_provider("assume-role")._prompter = _no_prompt
        for provider in resolver.providers:
            self._source = _source(provider.METHOD)
            if provider.METHOD in ("shared-credentials-file", "config-file"):
                provider = _FileProvider(provider)
            found: Credentials | None = provider.load()
            if found is not None:
                return found
        raise UnusableCredentialsError(error_msg=f"there are no AWS credentials. {CREDENTIAL_SOURCES}")


def _source(method: str) -> str:
    """Where a provider of botocore's chain finds credentials: the variable or the profile to check."""
    if method == "container-role":
        names = (name for name in _CONTAINER_VARIABLES if os.environ.get(name))
        return f"the container ({', '.join(names)})"
    if method in _SOURCES:
        return _SOURCES[method]
    if method == "assume-role-with-web-identity" and os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return "AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN"
    option = _OPTIONS.get(method)
    return f"profile {aws_places.profile()}" + (f" ({option})" if option else "")


def _why_unusable(error: Exception, source: str) -> str:
    if isinstance(error, RefreshWithMFAUnsupportedError):
        return _needs_code()
    if isinstance(error, ClientError) and error.response["Error"].get("Code") in _CLOCK:
        reason = f"AWS answered {error.response['Error']['Code']}; set this machine's clock"
    elif isinstance(error, JSONDecodeError):
        reason = f"the answer is not JSON ({error})"
    elif isinstance(error, BotoCoreError | ClientError | OSError | ValueError):
        reason = _REQUEST_ID.sub("", visible(" ".join(str(error).split())))[:_LONGEST_REASON]
    else:
        reason = f"{type(error).__name__}: {error}"
    return f"the AWS credentials of {source} cannot be used: {reason.rstrip('.')}. {CREDENTIAL_SOURCES}"


def _no_prompt(_: str) -> str:
    """Replace botocore's MFA prompt, which asks on the terminal at each attempt."""
    raise UnusableCredentialsError(error_msg=_needs_code())


def _needs_code() -> str:
    profile = aws_places.profile()
    return (
        f"the role of AWS_PROFILE={profile} requires an MFA code, which a service cannot prompt for. Get "
        f"temporary credentials (`aws configure export-credentials --profile {profile} --format env`) and "
        "set the AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN that it prints, without "
        "AWS_PROFILE; for longer periods, use a role that does not require MFA"
    )


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


def credentials(region: str) -> Credentials:
    """The credentials of AWS's chain for every client, renewed while they are used.

    They are looked for when a request is signed, and never with a prompt on the terminal: see
    `_ChainCredentials.get_frozen_credentials` for what that raises.
    """
    return _ChainCredentials(region)


def session(settings: AwsSettings) -> boto3.Session:
    """A session that signs with `credentials`.

    Raises:
        SettingsError: see `check_variables` and `aws_places.new_session`.
    """
    check_variables()
    made = aws_places.new_session(settings.aws_region)
    core: Any = made._session  # the stubs lack the attribute
    core._credentials = credentials(settings.aws_region)
    # No service in use takes SSO tokens, and a wrong sso_session is reported with the credentials.
    core.register_component("token_provider", TokenProviderChain(providers=[]))
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
        SettingsError: a variable, a shared file, an endpoint or a file of authorities cannot be used.
    """
    options: Any = Config(  # the stubs lack its attributes
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=connections,
    )
    opened = session(settings)
    with aws_places.usable_configuration():
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
    made.meta.events.register_first("needs-retry.s3", _refuse_redirect)
    made.meta.events.register("after-call", _check_answer)
    return made


def _refuse_redirect(response: Any, operation: Any, **_: Any) -> None:
    """Refuse a redirect that names no region: boto3 would ask for the region until it runs out of stack."""
    if response is None or response[0].status_code not in _REDIRECTS:
        return
    parsed = response[1]
    if not _region_header(parsed) and not parsed.get("Error", {}).get("Region"):
        _complete(response[0], parsed)
        raise ClientError(parsed, operation.name)


def _check_answer(http_response: Any, parsed: dict[str, Any], model: Any, **_: Any) -> None:
    """Check that an answer comes from AWS, which botocore does not; add to an error what botocore leaves out.

    Raises:
        ForeignAnswerError: the answer says 200, but is not AWS's.
    """
    if http_response.status_code >= 300:
        _complete(http_response, parsed)
        return
    if model.has_streaming_output:
        foreign, body = "ETag" not in parsed, None
    else:
        body = http_response.content
        foreign = _is_foreign(body.lstrip(), http_response.headers, model)
    if foreign:
        text = (parsed["Body"].read(_BEGINNING) if body is None else body).decode(errors="replace")
        raise ForeignAnswerError(beginning=answers.beginning(text) or "no text")


def _is_foreign(body: bytes, headers: Any, model: Any) -> bool:
    if model.service_model.protocol != "rest-xml":
        return bool(body) and not body.startswith(b"{")
    if body:
        root = _ROOT.match(body)
        return root is None or root[1].lower() in (b"html", b"error")
    page = str(headers.get("content-type", "")).startswith("text/html")
    own = any(name.lower().startswith("x-amz") or name.lower() == "etag" for name in headers)
    return model.http.get("method") == "GET" or (page and not own)


def _complete(http_response: Any, parsed: dict[str, Any]) -> None:
    """Add code and message to an error whose body is not what botocore expects, such as a proxy's page."""
    status, error = http_response.status_code, parsed.setdefault("Error", {})
    text = http_response.content.decode(errors="replace")
    page = str(http_response.headers.get("content-type", "")).startswith("text/html")
    if (text or page) and error.get("Code") in (None, "", "Unknown", str(status)):
        said = answers.parse(text)
        error |= {"Code": said.code or f"HTTP {status}", "Message": said.message or "a web page"}
    if named := answers.region(text):
        error["Region"] = named


def _region_header(response: Any) -> str:
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(headers.get("x-amz-bucket-region", ""))


def named_region(response: Any, settings: AwsSettings) -> str:
    """The bucket's region in a response of boto3; empty if it names none, or the one of the settings."""
    region = _region_header(response) or str(response.get("Error", {}).get("Region", ""))
    return "" if region == settings.aws_region else region


@contextmanager
def explained(settings: AwsSettings, doing: str, *, service: str | None = None) -> Iterator[None]:
    """Translate errors that boto3 raises in the block: see `explain`."""
    try:
        yield
    except (BotoCoreError, ClientError, ResponseParserError) as error:
        raise explain(error, settings, doing, service=service) from error


def explain(
    error: BotoCoreError | ClientError | ResponseParserError,
    settings: AwsSettings,
    doing: str,
    *,
    service: str | None = None,
) -> LakefeedError:
    """Translate an error of boto3; `doing` describes the operation, such as `starting the crawler x`.

    The message is stable while the cause is the same, so that it can be logged once.
    """
    where = aws_places.describe(settings, service)
    if isinstance(error, ClientError):
        return _explain_answer(error.response, settings, f"{doing}: {where}")
    if isinstance(error, UnusableCredentialsError):
        return RefusedError(f"{doing}: {error}.")
    if isinstance(error, BotoConnectionError | HTTPClientError):
        bundle = ", AWS_CA_BUNDLE" if isinstance(error, SSLError) else ""
        return UnavailableError(
            f"{doing}: {where} does not answer ({error}). Check AWS_ENDPOINT_URL{bundle} and AWS_REGION."
        )
    if isinstance(error, ForeignAnswerError):
        return UnavailableError(f"{doing}: {where}: {error}.")
    if isinstance(error, ResponseParserError):
        return UnavailableError(f"{doing}: {where}: {ForeignAnswerError(beginning='it cannot be parsed')}.")
    return LakefeedError(f"{doing}: {error}")


def _explain_answer(response: Any, settings: AwsSettings, where: str) -> LakefeedError:
    """Translate an error that AWS, or a server in between, has answered."""
    code = str(response["Error"].get("Code", ""))
    if code in _CLOCK:
        return RefusedError(f"{where} answered {code}. Set this machine's clock, or check the secret key.")
    reason = _REQUEST_ID.sub("", str(response["Error"].get("Message", "")))
    message = f"{where} answered {code}: {reason}" if reason else f"{where} answered {code}"
    metadata = response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode", 0)
    if region := named_region(response, settings):
        return RefusedError(f"{message.rstrip('.')}. The bucket is in {region}: set AWS_REGION={region}.")
    if status in _REDIRECTS:
        return RefusedError(
            f"{message.rstrip('.')}. It names no other region: check AWS_REGION, AWS_ENDPOINT_URL and "
            "proxies."
        )
    if code in _MISSING:
        return MissingError(message)
    if code in _CREDENTIALS:
        return RefusedError(f"{message}. Check the AWS credentials and the permissions of their role.")
    if code in _TRANSIENT or status == _TOO_MANY or status >= 500:
        return UnavailableError(message)
    return RefusedError(message)
