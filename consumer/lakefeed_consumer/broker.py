"""What Faust does not do: asks the broker for the topic, before Faust starts and while it has no partitions.

Faust itself would crash without a broker, and see a topic made later only after minutes.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import faust
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from lakefeed_common.errors import MissingError, UnavailableError
from lakefeed_consumer.settings import ConsumerSettings


async def find_topic(settings: ConsumerSettings) -> None:
    """Return when the topic exists.

    Raises:
        UnavailableError: the broker does not answer.
        MissingError: it has no such topic.
    """
    try:
        reason = await what_is_missing(settings)
    except (KafkaError, OSError, TimeoutError) as error:
        raise UnavailableError(
            f"{settings.kafka_bootstrap_servers} does not answer ({error!r}). Check "
            "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS, LAKEFEED_KAFKA_SECURITY_PROTOCOL, "
            "and that the address the broker advertises can be reached from here."
        ) from error
    if reason is not None:
        raise MissingError(reason)


async def what_is_missing(settings: ConsumerSettings) -> str | None:
    """Why there is nothing to consume although the broker answers; None when the topic is there.

    Raises:
        KafkaError, OSError, TimeoutError: the broker does not answer.
    """
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.kafka_bootstrap_servers.split(","),
        request_timeout_ms=int(settings.kafka_timeout_seconds * 1000),
        **credentials_to_aiokafka_auth(credentials(settings)),
    )
    async with asyncio.timeout(settings.kafka_timeout_seconds):
        try:
            await admin.start()
            topics = await admin.list_topics()
        finally:
            await admin.close()
    if settings.topic not in topics:
        return f"there is no topic {settings.topic} yet; the producer makes it with its first file"
    return None


def credentials(settings: ConsumerSettings) -> Any:
    """Faust's credentials for the settings' security protocol; None for PLAINTEXT."""
    protocol = settings.kafka_security_protocol
    context = ssl.create_default_context(cafile=settings.kafka_ssl_ca_file) if "SSL" in protocol else None
    if protocol.startswith("SASL"):
        secret = settings.kafka_sasl_password
        return faust.SASLCredentials(
            mechanism=settings.kafka_sasl_mechanism,
            username=settings.kafka_sasl_username,
            password=secret.get_secret_value() if secret else None,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None
