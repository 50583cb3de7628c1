"""Authentication at the broker: tokens for Amazon MSK, and errors for refused connections."""

from __future__ import annotations

from typing import Any

from lakefeed_common.errors import RefusedError
from lakefeed_common.settings import KafkaSettings


def msk_token(region: str) -> tuple[str, float]:
    """A token for Amazon MSK, signed with the credentials of AWS's chain, and its expiry in epoch seconds.

    It is a presigned request for `kafka-cluster:Connect`, valid for 15 minutes.

    Raises:
        RefusedError: there are no credentials, or they cannot be used.
        SettingsError: a variable or AWS's shared config file cannot be used.
    """
    # The imports take a third of a second, and are only needed for MSK.
    from aws_msk_iam_sasl_signer import MSKAuthTokenProvider  # type: ignore[import-untyped]
    from botocore.credentials import CredentialProvider, Credentials

    from lakefeed_common import aws

    class Found(CredentialProvider):
        """The signer's own chain would prompt for an MFA code."""

        def load(self) -> Credentials:
            frozen: Any = aws.credentials(region).get_frozen_credentials()
            return Credentials(frozen.access_key, frozen.secret_key, frozen.token)

    try:
        token, expires_ms = MSKAuthTokenProvider.generate_auth_token_from_credentials_provider(
            region, Found()
        )
    except aws.UnusableCredentialsError as error:
        raise RefusedError(f"a token for Amazon MSK cannot be signed: {error}") from error
    return token, expires_ms / 1000


def user_refused(settings: KafkaSettings, reason: str) -> RefusedError:
    """The broker rejected the user or token."""
    where, mechanism = settings.kafka_bootstrap_servers, settings.kafka_sasl_mechanism
    if mechanism == "AWS_MSK_IAM":
        return RefusedError(
            f"the broker at {where} does not accept the token signed with AWS's credentials: {reason}. Check "
            f"that AWS_REGION={settings.aws_region} is the cluster's region, that the cluster has IAM access "
            "control on this port, and that the role may do kafka-cluster:Connect"
        )
    return RefusedError(
        f"the broker at {where} does not accept the user {settings.kafka_sasl_username!r} with {mechanism}: "
        f"{reason}. Check LAKEFEED_KAFKA_SASL_USERNAME, LAKEFEED_KAFKA_SASL_PASSWORD, "
        "LAKEFEED_KAFKA_SASL_MECHANISM and LAKEFEED_KAFKA_SECURITY_PROTOCOL"
    )


def certificate_refused(settings: KafkaSettings, reason: str) -> RefusedError:
    """The broker rejected or requires a client certificate."""
    return RefusedError(
        f"the broker at {settings.kafka_bootstrap_servers} does not accept this client's certificate: "
        f"{reason}. Check that LAKEFEED_KAFKA_SSL_CERTIFICATE_FILE and LAKEFEED_KAFKA_SSL_KEY_FILE are set, "
        "that the certificate has not expired, and that its authority is one that the broker trusts"
    )


def not_secure(settings: KafkaSettings, reason: str) -> RefusedError:
    """The broker's certificate is not valid, or its port does not use TLS."""
    return RefusedError(
        f"no secure connection to the broker at {settings.kafka_bootstrap_servers}: {reason}. Check that "
        "LAKEFEED_KAFKA_SSL_CA_FILE is the authority of its certificate, that the certificate has not "
        "expired and is made for this host name, and that this port speaks TLS"
    )
