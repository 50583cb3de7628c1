"""AWS clients for the control plane, and AWS's errors told in the service's words."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError

from lakefeed_common.errors import LakefeedError, MissingError, RefusedError, UnavailableError
from lakefeed_common.settings import AwsSettings

_MISSING = {
    "EntityNotFoundException",
    "NoSuchBucket",
    "NoSuchKey",
    "404",
    "ResourceNotFoundException",
}
_TRANSIENT = {
    "InternalError",
    "InternalServerException",
    "InternalServiceException",
    "OperationTimeoutException",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "500",
    "503",
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
    "403",
}


def client(service: str, settings: AwsSettings, **config: Any) -> Any:
    """A boto3 client of a service (`s3`, `glue`, `athena`) with bounded waits and retries."""
    options = Config(
        connect_timeout=5,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 4},
        # A server that is not AWS's own seldom has a name for each bucket.
        s3={"addressing_style": "path"} if settings.aws_endpoint_url else None,
        **config,
    )
    return boto3.client(
        service,  # type: ignore[call-overload]  # the name is a plain string here
        region_name=settings.aws_region,
        endpoint_url=settings.aws_endpoint_url,
        config=options,
    )


def explain(error: BotoCoreError | ClientError, settings: AwsSettings, doing: str) -> LakefeedError:
    """Translate an error of boto3; `doing` says what was tried, such as `starting the crawler x`."""
    where = settings.aws_endpoint_url or f"AWS ({settings.aws_region})"
    if isinstance(error, ClientError):
        code = str(error.response["Error"].get("Code", ""))
        said = f"{doing}: {where} answered {code}: {error.response['Error'].get('Message', '')}"
        if code in _MISSING:
            return MissingError(said)
        if code in _CREDENTIALS:
            return RefusedError(f"{said}. Check the AWS credentials and the rights of their role.")
        if code in _TRANSIENT:
            return UnavailableError(said)
        return RefusedError(said)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return RefusedError(
            f"{doing}: no AWS credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE, or give the machine a role."
        )
    if isinstance(error, BotoConnectionError | HTTPClientError):
        return UnavailableError(
            f"{doing}: {where} does not answer ({error}). Check AWS_ENDPOINT_URL and AWS_REGION."
        )
    return LakefeedError(f"{doing}: {error}")
