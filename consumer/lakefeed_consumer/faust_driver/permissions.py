"""What the broker permits this user: reading the topic and joining the consumer group."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest

from lakefeed_common.errors import RefusedError
from lakefeed_consumer.settings import ConsumerSettings

# Fatal responses to JoinGroup, and what to do: https://kafka.apache.org/protocol#protocol_error_codes
_JOIN_REFUSED = {
    23: "another member uses a different protocol, as a consumer of another kind does. Stop that one, or set "
    "LAKEFEED_CONSUMER_GROUP to a group of its own",
    24: "its name is not valid. Set LAKEFEED_CONSUMER_GROUP",
    26: "the broker does not allow this session timeout. Set LAKEFEED_SESSION_TIMEOUT_SECONDS within the "
    "broker's group.min.session.timeout.ms and group.max.session.timeout.ms",
    30: "this user needs READ on the group",
    81: "it already has as many members as the broker's group.max.size allows. Run fewer consumers, "
    "or raise it",
}


async def check_permissions(admin: AIOKafkaAdminClient, settings: ConsumerSettings) -> None:
    """Check before Faust starts that this user may read: Faust would wait forever, or crash.

    Raises:
        RefusedError: the user may not read the topic, or not as a member of the group.
        KafkaError: the broker cannot answer now.
    """
    # A broker checks permissions first: only then that there is nothing to fetch, and no such member.
    fetch = FetchRequest(0, 0, 1, 0, [(settings.topic, [(0, 0, 1)])])
    fetched = (await admin._send_request(fetch)).topics
    if any(code == TopicAuthorizationFailedError.errno for _, found in fetched for _, code, *_ in found):
        raise _may_not_read(settings, f"the topic {settings.topic}")
    heartbeat = await admin._send_request(HeartbeatRequest(settings.consumer_group, -1, ""))
    if heartbeat.error_code == GroupAuthorizationFailedError.errno:
        raise _may_not_read(settings, f"the consumer group {settings.consumer_group}")


def join_refused(settings: ConsumerSettings, code: int) -> str:
    """Why the group's coordinator refuses this member, by the error code of its response."""
    reason = _JOIN_REFUSED.get(code, f"error {code}, {for_code(code).__name__}")
    return f"the consumer group {settings.consumer_group} does not admit this consumer: {reason}"


def _may_not_read(settings: ConsumerSettings, what: str) -> RefusedError:
    who = f"the user {settings.kafka_sasl_username!r}" if settings.kafka_sasl_username else "this client"
    return RefusedError(
        f"the broker at {settings.kafka_bootstrap_servers} does not allow {who} to read {what}. Grant READ "
        f"on the topic {settings.topic} and on the consumer group {settings.consumer_group}"
    )
