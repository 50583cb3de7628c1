"""How the consumer proves to the broker who it is, and why the broker does not let it in."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import faust
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import create_conn
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.metadata import MetadataRequest
from faust.auth import OAuthCredentials

from lakefeed_common import addresses, kafka, kafka_client
from lakefeed_common.errors import LakefeedError, RefusedError, UnavailableError
from lakefeed_common.settings import KafkaSettings
from lakefeed_consumer.settings import ConsumerSettings

# Asked for while a work loop waits, which must not count as hung.
_KNOCK_SECONDS = 5.0


def credentials(settings: KafkaSettings) -> Any:
    """Faust's credentials for the settings' security protocol; None for PLAINTEXT."""
    options = kafka_client.options(settings)
    context = options.get("ssl_context")
    if "sasl_oauth_token_provider" in options:
        return OAuthCredentials(oauth_cb=options["sasl_oauth_token_provider"], ssl_context=context)
    if "sasl_mechanism" in options:
        return faust.SASLCredentials(
            mechanism=options["sasl_mechanism"],
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None


async def check_rights(admin: AIOKafkaAdminClient, settings: ConsumerSettings) -> None:
    """Find out before Faust starts whether we may read: it would wait for ever, or crash.

    Raises:
        RefusedError: we may not, and what it is that we may not.
        KafkaError: the broker cannot tell now.
    """
    # Any broker looks at the rights first: then that there is nothing to fetch, and no such member.
    fetch = FetchRequest(0, 0, 1, 0, [(settings.topic, [(0, 0, 1)])])
    fetched = (await admin._send_request(fetch)).topics
    if any(code == TopicAuthorizationFailedError.errno for _, found in fetched for _, code, *_ in found):
        raise _may_not_read(settings, f"the topic {settings.topic}")
    beat = await admin._send_request(HeartbeatRequest(settings.consumer_group, -1, ""))
    if beat.error_code == GroupAuthorizationFailedError.errno:
        raise _may_not_read(settings, f"the consumer group {settings.consumer_group}")


def _may_not_read(settings: ConsumerSettings, what: str) -> RefusedError:
    who = f"the user {settings.kafka_sasl_username!r}" if settings.kafka_sasl_username else "this client"
    return RefusedError(
        f"the broker at {settings.kafka_bootstrap_servers} does not allow {who} to read {what}. It "
        f"needs READ on the topic {settings.topic} and on the consumer group {settings.consumer_group}"
    )


# Fatal answers to JoinGroup, and what to do: https://kafka.apache.org/protocol#protocol_error_codes
_JOIN_REFUSED = {
    23: "another member of the group speaks another protocol, as a consumer of another kind does. Stop it, "
    "or give this consumer a group of its own with LAKEFEED_CONSUMER_GROUP",
    24: "its name is not valid. Set LAKEFEED_CONSUMER_GROUP",
    26: "the broker does not allow this session timeout. Set LAKEFEED_SESSION_TIMEOUT_SECONDS within the "
    "broker's group.min.session.timeout.ms and group.max.session.timeout.ms",
    30: "this user needs READ on the group",
    81: "it has as many members as the broker's group.max.size allows. Run fewer consumers, or raise it",
}


def join_refused(settings: ConsumerSettings, code: int) -> str:
    """Why the group's coordinator lets this member not in, by the error code of its answer."""
    reason = _JOIN_REFUSED.get(code, f"error {code}, {for_code(code).__name__}")
    return f"the consumer group {settings.consumer_group} does not admit this consumer: {reason}"


async def why_not(settings: KafkaSettings, error: BaseException) -> LakefeedError:
    """Why the broker could not be used: what a connection of our own is told.

    aiokafka's clients tell it only to their log, and raise that there was no connection.
    """
    said = error
    knocks = (_knock(settings, server) for server in settings.kafka_bootstrap_servers.split(","))
    for told in await asyncio.gather(*knocks, return_exceptions=True):
        if told is not None:
            refusal = _refusal(settings, told)
            if refusal is not None:
                return refusal
            said = told
    return UnavailableError(
        f"no answer from Kafka at {settings.kafka_bootstrap_servers} ({str(said) or repr(said)}). Check that "
        "the broker runs, that LAKEFEED_KAFKA_BOOTSTRAP_SERVERS is its address, that "
        f"LAKEFEED_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol} is what this port speaks, and "
        "that the address the broker advertises can be reached from here"
    )


async def _knock(settings: KafkaSettings, server: str) -> None:
    host, port = addresses.split(server)
    limit = min(_KNOCK_SECONDS, settings.kafka_timeout_seconds)
    async with asyncio.timeout(limit):
        connection = await create_conn(
            host,
            port,
            request_timeout_ms=int(limit * 1000),
            **kafka_client.options(settings),
        )
        try:
            # A listener with SASL lets everybody in, and ends the connection at the first request.
            metadata = await connection.send(MetadataRequest([]))
            if not metadata.brokers:
                # aiokafka takes a broker's first word on a token for a yes, whatever it is.
                raise SaslAuthenticationFailed("the token is invalid")
        finally:
            connection.close()


def _refusal(settings: KafkaSettings, told: BaseException) -> LakefeedError | None:
    """The error as a no of the broker's, or of ours to the broker; None where it is neither."""
    cause = told.__cause__
    if isinstance(cause, LakefeedError):
        return cause
    match told:
        case ssl.SSLCertVerificationError():
            return kafka.not_secure(settings, told.verify_message)
        case ssl.SSLError():
            return kafka.not_secure(settings, str(told.strerror))
        case SaslAuthenticationFailed():
            return kafka.user_refused(settings, str(told.args[0]))
        case UnsupportedSaslMechanismError() | IllegalSaslStateError():
            return kafka.user_refused(settings, told.description)
    if isinstance(cause, ssl.SSLError):
        # With TLS 1.3 the broker looks at our certificate only after the handshake.
        return kafka.certificate_refused(settings, str(cause.strerror))
    return None
