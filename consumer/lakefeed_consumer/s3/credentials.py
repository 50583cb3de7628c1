"""The AWS credentials that sign requests, from boto3's chain."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from lakefeed_common import aws
from lakefeed_consumer.object_store import StoreRefusedError
from lakefeed_consumer.s3.errors import CREDENTIAL_SOURCES
from lakefeed_consumer.settings import ConsumerSettings

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from obstore.store import S3Credential


def find_credentials(settings: ConsumerSettings) -> Credentials:
    """What boto3's chain finds, renewed as `aws.session` says.

    Raises:
        StoreRefusedError: the chain finds none.
    """
    try:
        found = aws.session(settings).get_credentials()
    except BotoCoreError as error:
        raise StoreRefusedError(f"there are no AWS credentials ({error}). {CREDENTIAL_SOURCES}") from error
    if found is None:
        raise StoreRefusedError(f"there are no AWS credentials. {CREDENTIAL_SOURCES}")
    # Keys that are not available now may be later; until then each put reports it.
    with suppress(BotoCoreError, ClientError):
        check_keys(found.get_frozen_credentials(), found.method)
    return found


def check_keys(frozen: Any, source: str) -> None:
    """Check for keys that no HTTP header can carry, before obstore or a server does.

    Raises:
        StoreRefusedError: names the key and where it comes from.
    """
    for name in ("access_key", "secret_key", "token"):
        if not aws.is_plain(getattr(frozen, name)):
            raise StoreRefusedError(
                f"the AWS credentials of {source}: the {name.replace('_', ' ')} contains a line break, a "
                "space or another character that no credential has. Set it again without."
            )


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
            check_keys(frozen, self._chain.method)
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
