"""The AWS credentials that sign requests, from boto3's chain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lakefeed_common import aws
from lakefeed_consumer.object_store import StoreRefusedError
from lakefeed_consumer.settings import ConsumerSettings

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from obstore.store import S3Credential


def find_credentials(settings: ConsumerSettings) -> Credentials:
    """What boto3's chain finds, renewed as `aws.credentials` says.

    Raises:
        StoreRefusedError: the chain finds none that can sign now.
        SettingsError: a variable or AWS's shared config file cannot be used.
    """
    found = aws.credentials(settings.aws_region)
    try:
        found.get_frozen_credentials()
    except aws.UnusableCredentialsError as error:
        raise StoreRefusedError(f"{error}.") from error
    return found


class CredentialProvider:
    """obstore's credential provider over the chain.

    obstore passes an error of its provider on as text only.

    Attributes:
        failure: why the keys are not available now; None while they are.
    """

    def __init__(self, chain: Credentials) -> None:
        self._chain = chain
        self.failure: Exception | None = None

    def __call__(self) -> S3Credential:
        """The keys that sign now; obstore asks again shortly before they expire."""
        try:
            frozen: Any = self._chain.get_frozen_credentials()
        except Exception as error:
            self.failure = error
            raise
        self.failure = None
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + timedelta(minutes=1),
        }
