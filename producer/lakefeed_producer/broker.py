"""The way to the broker: connects, finds out why if it cannot, and makes the topic."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    ClusterMetadata,
    ConfigResource,
    NewTopic,
    ResourceType,
    TopicMetadata,
)

from lakefeed_common import addresses
from lakefeed_common.errors import LakefeedError, RefusedError, UnavailableError
from lakefeed_common.kafka import certificate_refused, msk_token, not_secure, user_refused
from lakefeed_common.settings import KafkaSettings
from lakefeed_producer.delivery import DEFAULT_MAX_MESSAGE_BYTES, KafkaPublisher
from lakefeed_producer.journal import Journal
from lakefeed_producer.sender import Sender
from lakefeed_producer.settings import ProducerSettings
from lakefeed_producer.topic import KafkaLog

log = logging.getLogger(__name__)

# A broker that does not take our certificate says so by an alert of TLS, whose name depends on who ends TLS
# there: Java, or OpenSSL in a proxy before the broker.
_CERTIFICATE_ALERT = re.compile(r"tls alert|alert (?:unknown ca|access denied|certificate required)")


def client_config(settings: KafkaSettings) -> dict[str, Any]:
    """The settings as librdkafka names them."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
        "client.id": "lakefeed-producer",
        # librdkafka's own messages would go to standard error; ours tell what they mean.
        "log_level": 0,
        "reconnect.backoff.max.ms": 1_000,
        "socket.connection.setup.timeout.ms": max(1_000, int(settings.kafka_timeout_seconds * 1000)),
    }
    if settings.kafka_ssl_ca_file:
        config["ssl.ca.location"] = str(settings.kafka_ssl_ca_file)
    if settings.kafka_ssl_certificate_file:
        config["ssl.certificate.location"] = str(settings.kafka_ssl_certificate_file)
        config["ssl.key.location"] = str(settings.kafka_ssl_key_file or settings.kafka_ssl_certificate_file)
    if settings.kafka_security_protocol.startswith("SASL"):
        config |= _sasl(settings)
    return config


def _sasl(settings: KafkaSettings) -> dict[str, Any]:
    if settings.kafka_sasl_mechanism == "AWS_MSK_IAM":
        # librdkafka would wait 10 s for a token and not say why there is none.
        msk_token(settings.aws_region)
        return {"sasl.mechanism": "OAUTHBEARER", "oauth_cb": lambda _: msk_token(settings.aws_region)}
    secret = settings.kafka_sasl_password
    return {
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": secret.get_secret_value() if secret else None,
    }


def _sender_options(settings: KafkaSettings) -> dict[str, Any]:
    # aiokafka takes a moment to import: the sender's thread does it while the file is looked at.
    from lakefeed_common import kafka_client

    return kafka_client.options(settings)


@dataclass
class Troubles:
    """What librdkafka last said about the connection."""

    reason: str = ""
    refusal: str = ""

    def note(self, error: KafkaError) -> None:
        """Take down an error; those of a user or a certificate do not go away by waiting."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            return  # always follows one that says why
        text = re.sub(r"^\S+/(bootstrap|\d+): ", "", error.str())
        self.reason = re.sub(r" \(after [^)]*\)", "", text)
        refusals = (KafkaError._AUTHENTICATION, KafkaError._SSL)
        if error.code() in refusals or _CERTIFICATE_ALERT.search(text):
            self.refusal = self.reason


@dataclass(frozen=True)
class Connection:
    """A usable topic.

    Attributes:
        publisher: sends to it.
        journal: knows what it holds.
        notes: what the user should know about the topic.
        usable: whether the broker answers now and has the topic.
    """

    publisher: KafkaPublisher
    journal: Journal
    notes: list[str]
    usable: Callable[[], bool]


def connect(settings: ProducerSettings, while_waiting: Callable[[str], None] = lambda _: None) -> Connection:
    """Reach the broker and make sure that there is the topic.

    Args:
        settings: where the broker is, and what the topic should be like.
        while_waiting: told about once a second why there is no answer yet, if it is known; may raise.

    Raises:
        UnavailableError: no answer within the time limit, or an advertised address out of reach.
        RefusedError: the broker does not accept the user, or does not make the topic.
    """
    troubles = Troubles()
    config: dict[str, Any] = {**client_config(settings), "error_cb": troubles.note}
    admin = AdminClient(config)
    metadata = _metadata(admin, troubles, settings, while_waiting)
    _check_advertised(metadata, settings, while_waiting)
    topic = metadata.topics.get(settings.topic)
    notes = _differences(topic, settings) if topic else [_create(admin, settings, while_waiting)]
    while_waiting("")
    publisher = KafkaPublisher(
        partial(Sender, _servers(settings), partial(_sender_options, settings), settings.topic),
        max_message_bytes=_max_message_bytes(admin, settings),
        compression=settings.compression,
    )
    records = KafkaLog(
        client_config(settings), admin, settings.topic, _answer_seconds(settings), lambda: troubles.reason
    )
    # It gets ready while the file is looked at.
    publisher.open()
    return Connection(publisher, Journal(records), notes, partial(_has_topic, admin, settings))


def _answer_seconds(settings: ProducerSettings) -> float:
    """How long one answer is waited for: never so long that the loop would count as stuck meanwhile."""
    return min(5.0, settings.kafka_timeout_seconds)


def _has_topic(admin: AdminClient, settings: ProducerSettings) -> bool:
    try:
        # Asking for the topic by its name could make it.
        return settings.topic in admin.list_topics(timeout=_answer_seconds(settings)).topics
    except KafkaException:
        return False


def _servers(settings: KafkaSettings) -> list[tuple[str, int]]:
    return [addresses.split(server) for server in settings.kafka_bootstrap_servers.split(",")]


class BrokerLink:
    """The connection of a service that stays up: kept while it is well, made anew otherwise."""

    def __init__(self, settings: ProducerSettings) -> None:
        self._settings = settings
        self._connection: Connection | None = None

    def open(self, while_waiting: Callable[[str], None]) -> Connection:
        """The connection; see `connect` for what it raises."""
        if self._connection is None:
            self._connection = connect(self._settings, while_waiting)
            for note in self._connection.notes:
                log.info("%s", note)
        return self._connection

    def drop(self) -> None:
        """Give up the connection and all that waits in it."""
        if self._connection is not None:
            self._connection.publisher.abandon()
            self._connection = None

    def usable(self) -> bool:
        """Whether the broker answers and has the topic."""
        return self._connection is not None and self._connection.usable()


# ---- reaching it ------------------------------------------------------------------------------


def _metadata(
    admin: AdminClient,
    troubles: Troubles,
    settings: ProducerSettings,
    while_waiting: Callable[[str], None],
) -> ClusterMetadata:
    """All topics: asking for one by its name could make it, with the broker's partitions, not ours."""
    end = time.monotonic() + settings.kafka_timeout_seconds
    while True:
        left = end - time.monotonic()
        try:
            return admin.list_topics(timeout=max(0.1, min(1.0, left)))
        except KafkaException:
            admin.poll(0)
        if troubles.refusal:
            raise _refused(troubles.refusal, settings)
        if time.monotonic() >= end:
            raise UnavailableError(_unreachable(troubles.reason, settings))
        while_waiting(troubles.reason)


def _refused(reason: str, settings: ProducerSettings) -> RefusedError:
    if _CERTIFICATE_ALERT.search(reason):
        return certificate_refused(settings, reason)
    if settings.kafka_security_protocol.startswith("SASL") and "SSL" not in reason:
        return user_refused(settings, reason)
    return not_secure(settings, reason)


def _unreachable(reason: str, settings: ProducerSettings) -> str:
    said = f" ({reason})" if reason else ""
    return (
        f"no answer from Kafka at {settings.kafka_bootstrap_servers} within "
        f"{settings.kafka_timeout_seconds:g} s{said}. Check that the broker runs, that "
        "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS is its address, that no firewall is between, and that "
        f"LAKEFEED_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol} is what this port speaks"
    )


def _check_advertised(
    metadata: ClusterMetadata, settings: ProducerSettings, while_waiting: Callable[[str], None]
) -> None:
    """A broker tells clients where to connect; from elsewhere that address often leads nowhere."""
    brokers = [(str(broker.host), broker.port) for broker in metadata.brokers.values()]
    if set(brokers) <= set(_servers(settings)):
        return
    failures: dict[str, str] = {}
    for broker in brokers:
        while_waiting("")
        try:
            with socket.create_connection(broker, _answer_seconds(settings)):
                return
        except OSError as error:
            failures[addresses.join(*broker)] = str(error.strerror or error)
    listed = ", ".join(f"{address} ({reason})" for address, reason in failures.items())
    raise UnavailableError(
        f"the broker at {settings.kafka_bootstrap_servers} answers, but tells clients to connect to "
        f"{listed}, which cannot be reached from here. Set `advertised.listeners` in the broker's "
        "configuration to an address that this computer can reach, or make that address reachable"
    )


# ---- the topic --------------------------------------------------------------------------------


def _differences(topic: TopicMetadata, settings: ProducerSettings) -> list[str]:
    partitions = len(topic.partitions)
    replicas = max((len(partition.replicas) for partition in topic.partitions.values()), default=0)
    if (partitions, replicas) == (settings.topic_partitions, settings.topic_replicas):
        return []
    return [
        f"the topic {settings.topic} has {_count(partitions, 'partition')} and {_count(replicas, 'replica')} "
        f"each, and LAKEFEED_TOPIC_PARTITIONS={settings.topic_partitions} "
        f"LAKEFEED_TOPIC_REPLICAS={settings.topic_replicas} say otherwise; it is used as it is"
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _create(admin: AdminClient, settings: ProducerSettings, while_waiting: Callable[[str], None]) -> str:
    wanted = NewTopic(settings.topic, settings.topic_partitions, settings.topic_replicas)
    seconds = _answer_seconds(settings)
    future = admin.create_topics([wanted], operation_timeout=seconds, request_timeout=2 * seconds)[
        settings.topic
    ]
    try:
        future.result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise _cannot_create(error.args[0], settings) from None
    _wait_for_leaders(admin, settings, while_waiting)
    return (
        f"made the topic {settings.topic} with {_count(settings.topic_partitions, 'partition')} and "
        f"{_count(settings.topic_replicas, 'replica')} each"
    )


def _cannot_create(error: KafkaError, settings: ProducerSettings) -> LakefeedError:
    said = f"the topic {settings.topic} cannot be made: {error.str().rstrip('.')}"
    match error.code():
        case KafkaError.INVALID_REPLICATION_FACTOR:
            advice = (
                f"LAKEFEED_TOPIC_REPLICAS={settings.topic_replicas} is more than there are brokers; "
                "set it lower"
            )
        case KafkaError.TOPIC_AUTHORIZATION_FAILED | KafkaError.CLUSTER_AUTHORIZATION_FAILED:
            advice = (
                "This user may not make topics: have somebody make it, or allow the user to CREATE and "
                "DESCRIBE it"
            )
        case KafkaError.POLICY_VIOLATION | KafkaError.INVALID_PARTITIONS | KafkaError.INVALID_CONFIG:
            advice = "Set LAKEFEED_TOPIC_PARTITIONS and LAKEFEED_TOPIC_REPLICAS to what the broker allows"
        case KafkaError.TOPIC_EXCEPTION:
            advice = "Choose another name with --topic"
        case _ if error.retriable() or error.code() == KafkaError._TIMED_OUT:
            return UnavailableError(f"{said}. Try again when the broker is well")
        case _:
            advice = "The broker's log says more"
    return RefusedError(f"{said}. {advice}")


def _wait_for_leaders(
    admin: AdminClient, settings: ProducerSettings, while_waiting: Callable[[str], None]
) -> None:
    end = time.monotonic() + settings.kafka_timeout_seconds
    while time.monotonic() < end:
        try:
            topic = admin.list_topics(settings.topic, timeout=1.0).topics[settings.topic]
        except KafkaException:
            continue
        if topic.partitions and all(partition.leader >= 0 for partition in topic.partitions.values()):
            return
        while_waiting("the new topic has no leader yet")
        time.sleep(0.05)
    raise UnavailableError(
        f"the topic {settings.topic} was made but has no leader after {settings.kafka_timeout_seconds:g} s. "
        "Check that enough brokers run"
    )


def _max_message_bytes(admin: AdminClient, settings: ProducerSettings) -> int:
    """The largest batch of records that the topic takes; a low guess when it may not be asked."""
    resource = ConfigResource(ResourceType.TOPIC, settings.topic)
    futures: Iterable[Any] = admin.describe_configs(
        [resource], request_timeout=_answer_seconds(settings)
    ).values()
    try:
        for future in futures:
            return int(future.result()["max.message.bytes"].value)
    except (KafkaException, KeyError):
        pass
    return DEFAULT_MAX_MESSAGE_BYTES
