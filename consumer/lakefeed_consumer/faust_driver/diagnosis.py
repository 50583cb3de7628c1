"""Why a broker cannot be used: aiokafka's clients only log it, and raise that there is no connection."""

from __future__ import annotations

import asyncio
import ssl

from aiokafka.conn import create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from lakefeed_common import addresses, kafka, kafka_client
from lakefeed_common.errors import LakefeedError, UnavailableError
from lakefeed_common.settings import KafkaSettings

# A work loop may wait for the diagnosis, and must not count as hung meanwhile.
_PROBE_SECONDS = 5.0


async def diagnose_connection(settings: KafkaSettings, error: BaseException) -> LakefeedError:
    """Connect to each bootstrap server once, and return the reason for an error of aiokafka's clients."""
    cause = error
    probes = (probe_broker(settings, server) for server in settings.kafka_bootstrap_servers.split(","))
    for result in await asyncio.gather(*probes, return_exceptions=True):
        if result is not None:
            refusal = _refusal(settings, result)
            if refusal is not None:
                return refusal
            cause = result
    return UnavailableError(
        f"no answer from Kafka at {settings.kafka_bootstrap_servers} ({str(cause) or repr(cause)}). Check "
        "that the broker runs, that LAKEFEED_KAFKA_BOOTSTRAP_SERVERS is its address, that "
        f"LAKEFEED_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol} is the protocol of this port, "
        "and that the address the broker advertises can be reached from here"
    )


async def probe_broker(settings: KafkaSettings, server: str) -> None:
    """Connect, authenticate and ask for metadata; raises whatever goes wrong."""
    host, port = addresses.split(server)
    limit = min(_PROBE_SECONDS, settings.kafka_timeout_seconds)
    async with asyncio.timeout(limit):
        connection = await create_conn(
            host,
            port,
            request_timeout_ms=int(limit * 1000),
            **kafka_client.options(settings),
        )
        try:
            # A listener with SASL accepts every connection, and closes it at the first request.
            metadata = await connection.send(MetadataRequest([]))
            if not metadata.brokers:
                # aiokafka takes a broker's first response to a token for success, whatever it is.
                raise SaslAuthenticationFailed("the token is invalid")
        finally:
            connection.close()


def _refusal(settings: KafkaSettings, error: BaseException) -> LakefeedError | None:
    """The error as a refusal, by the broker or by this client; None for any other error."""
    cause = error.__cause__
    if isinstance(cause, LakefeedError):
        return cause
    match error:
        case ssl.SSLCertVerificationError():
            return kafka.not_secure(settings, error.verify_message)
        case ssl.SSLError():
            return kafka.not_secure(settings, str(error.strerror))
        case SaslAuthenticationFailed():
            return kafka.user_refused(settings, str(error.args[0]))
        case UnsupportedSaslMechanismError() | IllegalSaslStateError():
            return kafka.user_refused(settings, error.description)
    if isinstance(cause, ssl.SSLError):
        # With TLS 1.3 the broker checks a client's certificate only after the handshake.
        return kafka.certificate_refused(settings, str(cause.strerror))
    return None
