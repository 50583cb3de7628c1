"""Translates boto3's errors to Lakefeed's, in one place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import ClientError

from lakefeed_common import aws
from lakefeed_common.errors import MissingError
from lakefeed_common.settings import AwsSettings

_ABSENT = re.compile(r"not found|could not find", re.IGNORECASE)


def code(error: ClientError) -> str:
    """AWS's code of an error, such as `CrawlerRunningException`."""
    return str(error.response["Error"].get("Code", ""))


def message(error: ClientError) -> str:
    """AWS's message of an error."""
    return str(error.response["Error"].get("Message", ""))


@contextmanager
def explained(settings: AwsSettings, doing: str) -> Iterator[None]:
    """Translate errors that boto3 raises in the block; `doing` describes the operation.

    Raises:
        MissingError, RefusedError, UnavailableError, LakefeedError
    """
    with aws.explained(settings, doing):
        try:
            yield
        except ClientError as error:
            # Athena has no error code for resources that do not exist.
            if code(error) == "InvalidRequestException" and _ABSENT.search(message(error)):
                raise MissingError(f"{doing}: {message(error)}") from error
            raise
