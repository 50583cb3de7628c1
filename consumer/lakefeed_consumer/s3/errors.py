"""One table from what S3 answers to the errors of `ObjectStore`, whichever client has received it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from lakefeed_consumer.object_store import StoreRefusedError, StoreUnavailableError

NoResponse = Literal["timeout", "connection", "certificate", "other"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed request, in terms of S3; a client fills in what it knows.

    Attributes:
        status: HTTP status of the response; 0 without a response.
        code: S3's error code.
        message: S3's own message.
        region: the bucket's region, if S3 names another one than the client used.
        no_response: why there is no response.
        detail: more about a missing response.
    """

    status: int = 0
    code: str = ""
    message: str = ""
    region: str = ""
    no_response: NoResponse = "other"
    detail: str = ""


_OBJECT = re.compile(r"(arn:aws[\w-]*:s3:::[^/\s\"']+/)[^\s\"']+")
_MAX_MESSAGE = 500


class _Rule(NamedTuple):
    """The first rule that applies gives the error; `cause` is `refused` or one of `metrics.RETRY_CAUSES`."""

    applies: Callable[[Failure], bool]
    cause: str
    text: str


_THROTTLING = re.compile(r"Throttl|SlowDown|TooManyRequests|RequestLimitExceeded|BandwidthLimitExceeded")
# Refusals of one request that a retry can pass.
_TRANSIENT = {"RequestTimeout", "OperationAborted", "ConditionalRequestConflict"}
_RULES = (
    _Rule(
        lambda failure: failure.code == "NoSuchBucket",
        "refused",
        "there is no such bucket. Create it or set LAKEFEED_BUCKET.",
    ),
    _Rule(
        lambda failure: bool(failure.region),
        "refused",
        "refused with {code_or_status}{message}. The bucket is in {region}. Set AWS_REGION={region}.",
    ),
    _Rule(
        lambda failure: failure.status in (301, 302, 307, 308),
        "refused",
        "refused with {code_or_status}{message}. It names no other region: check AWS_REGION, "
        "AWS_ENDPOINT_URL and proxies.",
    ),
    _Rule(
        lambda failure: failure.code == "RequestTimeTooSkewed",
        "other",
        "answered {code}. Set the clock of this machine.",
    ),
    _Rule(
        lambda failure: failure.status == 501,
        "refused",
        "answered 501 {code}{message}. This store does not support conditional puts (If-None-Match: *), so "
        "it cannot guarantee that no event is replaced. Use another store.",
    ),
    _Rule(
        lambda failure: (
            failure.status in (429, 503) or (failure.status >= 400 and bool(_THROTTLING.search(failure.code)))
        ),
        "slow_down",
        "answered {status} {code}{message}",
    ),
    _Rule(
        lambda failure: 400 <= failure.status < 500 and failure.code not in _TRANSIENT,
        "refused",
        "refused with {code_or_status}{message}.{advice}",
    ),
    _Rule(lambda failure: failure.status >= 500, "server_error", "answered {status} {code}{message}"),
    _Rule(
        lambda failure: failure.status == 200,
        "other",
        "the response is not from S3{message}. Check AWS_ENDPOINT_URL and proxies.",
    ),
    _Rule(lambda failure: failure.status > 0, "other", "answered {status} {code}{message}"),
    _Rule(lambda failure: failure.no_response == "timeout", "timeout", "no answer ({detail})"),
    _Rule(lambda failure: failure.no_response == "connection", "connection", "no answer ({detail})"),
    _Rule(
        lambda failure: failure.no_response == "certificate",
        "connection",
        "certificate verify failed: {detail}. Check the server's certificate and AWS_CA_BUNDLE.",
    ),
    _Rule(lambda _: True, "other", "no answer ({detail})"),
)

_CREDENTIALS = "Check the AWS credentials and the rights of their role."
_RIGHTS = "Check the rights of the AWS credentials' role, the bucket's policy and its KMS key."
_ADVICE = {
    **dict.fromkeys(("AccessDenied", "AllAccessDisabled", "AccountProblem"), _RIGHTS),
    **dict.fromkeys(
        (
            "ExpiredToken",
            "ExpiredTokenException",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidSecurity",
            "InvalidToken",
            "SignatureDoesNotMatch",
            "TokenRefreshRequired",
        ),
        _CREDENTIALS,
    ),
}


def translate(failure: Failure, where: str) -> StoreUnavailableError | StoreRefusedError:
    """The error of `ObjectStore` for a failed request; `where` names the bucket and its address.

    Its message names no object: it is the reason of a state, and must not change with each put.
    """
    rule = next(rule for rule in _RULES if rule.applies(failure))
    message, advice = _message(failure), _advice(failure)
    text = rule.text.format(
        status=failure.status,
        code=failure.code,
        code_or_status=failure.code or failure.status,
        message=f": {message}" if message else "",
        region=failure.region,
        detail=failure.detail or rule.cause,
        advice=f" {advice}" if advice else "",
    )
    if rule.cause == "refused":
        return StoreRefusedError(f"{where}: {text}")
    return StoreUnavailableError(f"{where}: {text}", rule.cause)


def _message(failure: Failure) -> str:
    """S3's own message on one line, without the names of objects."""
    plain = " ".join(failure.message.split())
    return _OBJECT.sub(r"\1*", plain).rstrip(".")[:_MAX_MESSAGE]


def _advice(failure: Failure) -> str:
    if failure.code.startswith("KMS."):
        return "Check the KMS key that the bucket encrypts with."
    if not failure.code and not failure.message and failure.status in (400, 401, 403):
        return _CREDENTIALS
    return _ADVICE.get(failure.code, "")
