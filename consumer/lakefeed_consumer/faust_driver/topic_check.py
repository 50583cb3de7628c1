"""Checks for the topic before Faust starts.

Faust itself crashes without a broker, and notices a topic that is created later only after minutes.
"""

from __future__ import annotations

import asyncio

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from lakefeed_common import kafka_client
from lakefeed_common.errors import MissingError
from lakefeed_consumer.faust_driver.diagnosis import diagnose_connection
from lakefeed_consumer.faust_driver.permissions import check_permissions
from lakefeed_consumer.settings import ConsumerSettings


async def check_topic(settings: ConsumerSettings) -> None:
    """Return if the topic exists and this user may read it.

    Raises:
        UnavailableError: the broker does not answer.
        RefusedError: it refuses the connection, or reading.
        MissingError: there is no such topic.
    """
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.kafka_bootstrap_servers.split(","),
        request_timeout_ms=int(settings.kafka_timeout_seconds * 1000),
        **kafka_client.options(settings),
    )
    try:
        async with asyncio.timeout(settings.kafka_timeout_seconds):
            try:
                await admin.start()
                await check_permissions(admin, settings)
                topics = await admin.list_topics()
            finally:
                await admin.close()
    except (KafkaError, OSError, TimeoutError) as error:
        raise await diagnose_connection(settings, error) from error
    if settings.topic not in topics:
        raise MissingError(no_topic(settings))


def no_topic(settings: ConsumerSettings) -> str:
    """Why there is nothing to consume although the broker answers."""
    return f"there is no topic {settings.topic} yet; the producer creates it with its first file"
