"""The one place in which errors of boto3 become errors of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from lakefeed_common import aws
from lakefeed_common.errors import MissingError
from lakefeed_common.settings import AwsSettings


def code(error: ClientError) -> str:
    """AWS's code of an error, such as `CrawlerRunningException`."""
    return str(error.response["Error"].get("Code", ""))


def message(error: ClientError) -> str:
    """AWS's message of an error."""
    return str(error.response["Error"].get("Message", ""))


@contextmanager
def explained(settings: AwsSettings, doing: str) -> Iterator[None]:
    """Translate whatever boto3 raises inside; `doing` says what is tried.

    Raises:
        MissingError, RefusedError, UnavailableError, LakefeedError
    """
    try:
        yield
    except ClientError as error:
        # Athena has no code of its own for what does not exist.
        if code(error) == "InvalidRequestException" and "not found" in message(error).lower():
            raise MissingError(f"{doing}: {message(error)}") from error
        raise aws.explain(error, settings, doing) from error
    except BotoCoreError as error:
        raise aws.explain(error, settings, doing) from error
