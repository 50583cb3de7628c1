"""A real broker that requires certificates, passwords, tokens and rights, each on a listener of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from lakefeed_local.broker import Broker
from tests.helpers.brokers import PATIENT
from tests.helpers.credentials import PASSWORD, STRANGER, USER, write_certificates
from tests.helpers.services import free_port
from tests.helpers.waiting import wait_for

_KAFKA = "org.apache.kafka.common.security"
_LISTENERS = {
    "TLS": "SSL",
    "MUTUAL": "SSL",
    "OTHERHOST": "SSL",
    "EXPIRED": "SSL",
    "SASL": "SASL_SSL",
    "TOKEN": "SASL_SSL",
    "BRIEF": "SASL_SSL",
}
# On BRIEF a connection lives no longer: then the broker asks for the password again, or ends it.
_BRIEF_SECONDS = 3
_MECHANISMS = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)


@dataclass(frozen=True)
class SecureBroker:
    """A running broker; `ports` by listener, files in `folder`. Its users and rights are for all tests."""

    folder: Path
    ports: dict[str, int]

    @classmethod
    def at(cls, described: str) -> Self:
        """The broker of another process, which has described it."""
        found = json.loads(described)
        return cls(Path(found["folder"]), found["ports"])

    def describe(self) -> str:
        return json.dumps({"folder": str(self.folder), "ports": self.ports})

    @cached_property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.address("PLAIN"), "log_level": 0})

    def address(self, listener: str) -> str:
        """`PLAIN` needs nothing and may do everything; the others are named after what they check."""
        return f"localhost:{self.ports[listener]}"

    def file(self, name: str) -> str:
        """See `write_certificates`."""
        return str(self.folder / f"{name}.pem")

    def make_topic(self, name: str) -> None:
        self.admin.create_topics([NewTopic(name, 1, 1)])[name].result(20)

    def set_password(self, user: str, password: str) -> None:
        changes: list[UserScramCredentialAlteration] = [
            UserScramCredentialUpsertion(user, ScramCredentialInfo(mechanism, 4096), password.encode())
            for mechanism in _MECHANISMS
        ]
        for change in self.admin.alter_user_scram_credentials(changes).values():
            change.result(20)

    def lets_in(self, user: str) -> bool:
        """Whether the user's password is known already."""
        access: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.address("SASL"),
            "log_level": 0,
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": self.file("ca"),
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": PASSWORD,
        }
        try:
            return bool(AdminClient(access).list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def allow(self, user: str, kind: ResourceType, name: str, operation: AclOperation) -> None:
        rule = AclBinding(
            kind,
            name,
            ResourcePatternType.LITERAL,
            f"User:{user}",
            "*",
            operation,
            AclPermissionType.ALLOW,
        )
        for made in self.admin.create_acls([rule]).values():
            made.result(20)


@contextmanager
def secure_broker(folder: Path) -> Iterator[SecureBroker]:
    """Start it, with users and certificates."""
    folder.mkdir(parents=True, exist_ok=True)
    write_certificates(folder)
    ports = {name: free_port() for name in ("PLAIN", *_LISTENERS)}
    with Broker(folder / "broker", kafka_port=ports["PLAIN"], overrides=_overrides(folder, ports)):
        secured = SecureBroker(folder, ports)
        for user in (USER, STRANGER):
            secured.set_password(user, PASSWORD)
            # The broker hears of it from ZooKeeper.
            wait_for(partial(secured.lets_in, user), 60)
        yield secured


def _overrides(folder: Path, ports: dict[str, int]) -> dict[str, str]:
    """Broker settings, by listener."""
    protocols = {"OUTSIDE": "PLAINTEXT", **_LISTENERS}
    at = {"OUTSIDE": ports["PLAIN"], **{name: ports[name] for name in _LISTENERS}}
    settings = {
        "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in at.items()),
        "advertised.listeners": ",".join(f"{name}://localhost:{port}" for name, port in at.items()),
        "listener.security.protocol.map": ",".join(f"{name}:{value}" for name, value in protocols.items()),
        "authorizer.class.name": "kafka.security.authorizer.AclAuthorizer",
        "super.users": f"User:ANONYMOUS;User:{USER};User:CN={USER}",
        # Of a certificate's long name.
        "ssl.principal.mapping.rules": r"RULE:^.*CN=([^,]+).*$/CN=$1/,DEFAULT",
        # Refused connections are closed at once, not after a pause that only slows the tests.
        "connection.failed.authentication.delay.ms": "0",
        **PATIENT,
    }
    for name in _LISTENERS:
        certificate = {"OTHERHOST": "otherhost", "EXPIRED": "expired"}.get(name, "server")
        prefix = f"listener.name.{name.lower()}"
        settings |= {
            f"{prefix}.ssl.keystore.type": "PEM",
            f"{prefix}.ssl.keystore.location": str(folder / f"{certificate}.pem"),
        }
    return settings | {
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.mutual.ssl.truststore.type": "PEM",
        "listener.name.mutual.ssl.truststore.location": str(folder / "ca.pem"),
        "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.sasl.plain.sasl.jaas.config": (
            f'{_KAFKA}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        ),
        "listener.name.sasl.scram-sha-256.sasl.jaas.config": f"{_KAFKA}.scram.ScramLoginModule required;",
        "listener.name.sasl.scram-sha-512.sasl.jaas.config": f"{_KAFKA}.scram.ScramLoginModule required;",
        "listener.name.brief.sasl.enabled.mechanisms": "SCRAM-SHA-256",
        "listener.name.brief.scram-sha-256.sasl.jaas.config": f"{_KAFKA}.scram.ScramLoginModule required;",
        "listener.name.brief.scram-sha-256.connections.max.reauth.ms": str(_BRIEF_SECONDS * 1000),
        "listener.name.token.sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.token.oauthbearer.sasl.jaas.config": (
            f'{_KAFKA}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="{USER}";'
        ),
        "listener.name.token.oauthbearer.sasl.server.callback.handler.class": (
            f"{_KAFKA}.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler"
        ),
        # A connection lives no longer than its token, as on MSK.
        "listener.name.token.oauthbearer.connections.max.reauth.ms": "3600000",
    }
