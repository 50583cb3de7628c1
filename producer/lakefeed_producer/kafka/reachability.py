"""Waits for the broker's first response, and explains why there is none."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata

from lakefeed_common import addresses
from lakefeed_common.errors import RefusedError, UnavailableError
from lakefeed_common.kafka import certificate_refused, not_secure, user_refused
from lakefeed_common.settings import KafkaSettings
from lakefeed_producer.kafka.client import (
    CERTIFICATE_ALERT,
    ConnectionErrors,
    bootstrap_addresses,
    response_seconds,
)

WhileWaiting = Callable[[str], None]
"""Called about once a second with the reason for waiting; empty if it is unknown. May raise to stop."""


def fetch_metadata(
    admin: AdminClient, errors: ConnectionErrors, settings: KafkaSettings, while_waiting: WhileWaiting
) -> ClusterMetadata:
    """Fetch the metadata of the cluster and check that its brokers are reachable.

    Metadata of all topics: requesting a topic by name could create it, with the broker's defaults.

    Raises:
        UnavailableError: no response within the timeout, or an advertised address is unreachable.
        RefusedError: the broker does not accept the user or the certificate.
    """
    metadata = _first_response(admin, errors, settings, while_waiting)
    _check_advertised_addresses(metadata, settings, while_waiting)
    return metadata


def _first_response(
    admin: AdminClient, errors: ConnectionErrors, settings: KafkaSettings, while_waiting: WhileWaiting
) -> ClusterMetadata:
    end = time.monotonic() + settings.kafka_timeout_seconds
    while True:
        left = end - time.monotonic()
        try:
            return admin.list_topics(timeout=max(0.1, min(1.0, left)))
        except KafkaException:
            admin.poll(0)
        if errors.refusal:
            raise _refused(errors.refusal, settings)
        if time.monotonic() >= end:
            raise UnavailableError(_unreachable(errors.reason, settings))
        while_waiting(errors.reason)


def _refused(reason: str, settings: KafkaSettings) -> RefusedError:
    if CERTIFICATE_ALERT.search(reason):
        return certificate_refused(settings, reason)
    if settings.kafka_security_protocol.startswith("SASL") and "SSL" not in reason:
        return user_refused(settings, reason)
    return not_secure(settings, reason)


def _unreachable(reason: str, settings: KafkaSettings) -> str:
    cause = f" ({reason})" if reason else ""
    return (
        f"no response from Kafka at {settings.kafka_bootstrap_servers} within "
        f"{settings.kafka_timeout_seconds:g} s{cause}. Check that the broker is running, that "
        "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS is its address, that no firewall blocks it, and that "
        f"its listener expects LAKEFEED_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol}"
    )


def _check_advertised_addresses(
    metadata: ClusterMetadata, settings: KafkaSettings, while_waiting: WhileWaiting
) -> None:
    """A broker advertises where clients should connect; that address may be unreachable from here."""
    brokers = [(str(broker.host), broker.port) for broker in metadata.brokers.values()]
    if set(brokers) <= set(bootstrap_addresses(settings)):
        return
    failures: dict[str, str] = {}
    for broker in brokers:
        while_waiting("")
        try:
            with socket.create_connection(broker, response_seconds(settings)):
                return
        except OSError as error:
            failures[addresses.join(*broker)] = str(error.strerror or error)
    listed = ", ".join(f"{address} ({reason})" for address, reason in failures.items())
    raise UnavailableError(
        f"the broker at {settings.kafka_bootstrap_servers} responds, but advertises "
        f"{listed}, which is unreachable from here. Set `advertised.listeners` in the broker's "
        "configuration to an address that this computer can reach, or make that address reachable"
    )
