"""Reads the consumer group's committed offsets from Kafka."""

from __future__ import annotations

import asyncio
import logging

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError

from lakefeed_analytics.settings import CompactSettings
from lakefeed_common import kafka_client
from lakefeed_common.errors import MissingError, RefusedError, UnavailableError

_PAUSE = 0.3


def committed_offsets(settings: CompactSettings, topic: str) -> dict[int, int]:
    """The committed offset of each partition of a topic; only partitions that have one.

    Raises:
        MissingError: no partition has one.
        UnavailableError: Kafka does not answer.
        RefusedError: it refuses the connection or the group.
    """
    # Its connections report errors that this function raises.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return asyncio.run(_committed_offsets(settings, topic))


async def _committed_offsets(settings: CompactSettings, topic: str) -> dict[int, int]:
    kafka_client.quiet_lost_connections(asyncio.get_running_loop())
    where = f"the committed offsets of {settings.consumer_group} at {settings.kafka_bootstrap_servers}"
    client = AIOKafkaAdminClient(
        bootstrap_servers=settings.kafka_bootstrap_servers.split(","),
        request_timeout_ms=int(settings.kafka_timeout_seconds * 1000),
        **kafka_client.options(settings),
    )
    last: Exception = TimeoutError()
    try:
        async with asyncio.timeout(settings.kafka_timeout_seconds):
            await client.start()
            while True:
                try:
                    found = await client.list_consumer_group_offsets(settings.consumer_group)
                    break
                except KafkaError as error:
                    # A broker that has just started has no coordinator yet.
                    if not error.retriable:
                        raise
                    last = error
                    await asyncio.sleep(_PAUSE)
    except (GroupAuthorizationFailedError, TopicAuthorizationFailedError) as error:
        raise RefusedError(
            f"{where}: Kafka refuses to show them ({error!r}). This user needs the right to describe the "
            "group and the topic"
        ) from error
    except (KafkaError, OSError, TimeoutError) as error:
        reason = last if isinstance(error, TimeoutError) else error
        raise UnavailableError(
            f"{where}: Kafka does not answer ({reason!r}). Check LAKEFEED_KAFKA_BOOTSTRAP_SERVERS and "
            "LAKEFEED_KAFKA_SECURITY_PROTOCOL"
        ) from error
    finally:
        await client.close()
    offsets = {
        place.partition: offset.offset
        for place, offset in found.items()
        if place.topic == topic and offset.offset >= 0
    }
    if not offsets:
        # Kafka also answers so if this user may not describe the group.
        raise MissingError(
            f"{where}: there are none of the topic {topic}. The consumer commits the first ones when it has "
            "stored events. Check LAKEFEED_CONSUMER_GROUP and LAKEFEED_TOPIC, and that this user may describe"
            " the group and the topic"
        )
    return offsets
