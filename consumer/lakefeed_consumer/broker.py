"""What Faust does not do: asks the broker for the topic before it starts.

Faust itself would crash without a broker, and see a topic made later only after minutes.
"""

from __future__ import annotations

import asyncio

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from lakefeed_common import kafka_client
from lakefeed_common.errors import MissingError
from lakefeed_consumer.access import check_rights, why_not
from lakefeed_consumer.settings import ConsumerSettings


async def find_topic(settings: ConsumerSettings) -> None:
    """Return when the topic exists.

    Raises:
        UnavailableError: the broker does not answer.
        RefusedError: it does not let us in, or does not let us read.
        MissingError: it has no such topic.
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
                await check_rights(admin, settings)
                topics = await admin.list_topics()
            finally:
                await admin.close()
    except (KafkaError, OSError, TimeoutError) as error:
        raise await why_not(settings, error) from error
    if settings.topic not in topics:
        raise MissingError(no_topic(settings))


def no_topic(settings: ConsumerSettings) -> str:
    """Why there is nothing to consume although the broker answers."""
    return f"there is no topic {settings.topic} yet; the producer makes it with its first file"
