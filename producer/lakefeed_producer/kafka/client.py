"""Settings of the Kafka clients, and what librdkafka reports about the connection."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError

from lakefeed_common import addresses
from lakefeed_common.kafka import msk_token
from lakefeed_common.settings import KafkaSettings

# A broker reports a certificate that it does not accept as a TLS alert, whose name depends on where TLS
# ends: in Java, or in OpenSSL in a proxy in front of the broker.
CERTIFICATE_ALERT = re.compile(r"tls alert|alert (?:unknown ca|access denied|certificate required)")


def client_config(settings: KafkaSettings) -> dict[str, Any]:
    """The settings as librdkafka names them."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
        "client.id": "lakefeed-producer",
        # librdkafka would log to standard error; the producer reports problems itself.
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
        # Fail early: librdkafka would wait 10 s for a token and not report why there is none.
        msk_token(settings.aws_region)
        return {"sasl.mechanism": "OAUTHBEARER", "oauth_cb": lambda _: msk_token(settings.aws_region)}
    secret = settings.kafka_sasl_password
    return {
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": secret.get_secret_value() if secret else None,
    }


def sender_options(settings: KafkaSettings) -> dict[str, Any]:
    """The settings as aiokafka names them."""
    # aiokafka takes a moment to import: the sender's thread does it while the file is read.
    from lakefeed_common import kafka_client

    return kafka_client.options(settings)


def bootstrap_addresses(settings: KafkaSettings) -> list[tuple[str, int]]:
    """The bootstrap servers, as host and port."""
    return [addresses.split(server) for server in settings.kafka_bootstrap_servers.split(",")]


def response_seconds(settings: KafkaSettings) -> float:
    """Timeout of one request: short enough that the work loop does not count as stalled meanwhile."""
    return min(5.0, settings.kafka_timeout_seconds)


@dataclass
class ConnectionErrors:
    """The last errors that librdkafka reported about the connection.

    Attributes:
        reason: the last error.
        refusal: the last error that does not go away by waiting, such as a wrong password.
    """

    reason: str = ""
    refusal: str = ""

    def note(self, error: KafkaError) -> None:
        """Handle librdkafka's `error_cb`."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            return  # always follows an error with the cause
        text = re.sub(r"^\S+/(bootstrap|\d+): ", "", error.str())
        self.reason = re.sub(r" \(after [^)]*\)", "", text)
        refusals = (KafkaError._AUTHENTICATION, KafkaError._SSL)
        if error.code() in refusals or CERTIFICATE_ALERT.search(text):
            self.refusal = self.reason
