"""A real broker that wants certificates, passwords, tokens and rights, each on a listener of its own."""

from __future__ import annotations

import base64
import datetime
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme
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
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from lakefeed_local.broker import Broker
from tests.helpers.services import free_port

# May do everything; as the user of certificates, of passwords and of tokens.
USER = "lakefeed"
PASSWORD = "right-password-5f3c"
# May see topics, and nothing else.
STRANGER = "stranger"

_KAFKA = "org.apache.kafka.common.security"
_LISTENERS = {
    "TLS": "SSL",
    "MUTUAL": "SSL",
    "OTHERHOST": "SSL",
    "EXPIRED": "SSL",
    "SASL": "SASL_SSL",
    "TOKEN": "SASL_SSL",
}
_MECHANISMS = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)


@dataclass(frozen=True)
class SecureBroker:
    """A running broker; `ports` by listener, files in `folder`."""

    broker: Broker
    folder: Path
    ports: dict[str, int]
    admin: AdminClient

    def address(self, listener: str) -> str:
        """`PLAIN` needs nothing and may do everything; the others are named after what they check."""
        return f"localhost:{self.ports[listener]}"

    def file(self, name: str) -> str:
        """`ca`, `other-ca`: authorities. `client`, `other-client`, `expired-client`: certificate with key."""
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


def unsecured_token(user: str, seconds: float) -> str:
    """A token for so long that Kafka's own validator for tests takes: nobody has signed it."""
    now = time.time()

    def part(content: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    claims: dict[str, object] = {"sub": user, "iat": now - 1, "exp": now + seconds}
    return f"{part({'alg': 'none'})}.{part(claims)}."


@contextmanager
def secure_broker(folder: Path) -> Iterator[SecureBroker]:
    """Start it, with users and certificates."""
    _write_certificates(folder)
    ports = {name: free_port() for name in ("PLAIN", *_LISTENERS)}
    with Broker(folder / "broker", kafka_port=ports["PLAIN"], overrides=_overrides(folder, ports)) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
        secured = SecureBroker(broker, folder, ports, admin)
        for user in (USER, STRANGER):
            secured.set_password(user, PASSWORD)
        yield secured


def _write_certificates(folder: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    for name, signer in (("ca", authority), ("other-ca", other)):
        signer.cert_pem.write_to_path(str(folder / f"{name}.pem"))
    made = {
        "server": authority.issue_cert("localhost", "127.0.0.1"),
        "otherhost": authority.issue_cert("kafka.example.com"),
        "expired": authority.issue_cert("localhost", "127.0.0.1", not_after=yesterday),
        "client": authority.issue_cert("lakefeed@example.com", common_name=USER),
        "other-client": other.issue_cert("lakefeed@example.com", common_name=USER),
        "expired-client": authority.issue_cert("lakefeed@example.com", common_name=USER, not_after=yesterday),
    }
    for name, certificate in made.items():
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        (folder / f"{name}.pem").write_bytes(_pkcs8(certificate.private_key_pem.bytes()) + chain)


def _pkcs8(key: bytes) -> bytes:
    """The key in the one form that Java reads."""
    return load_pem_private_key(key, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


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
        "zookeeper.session.timeout.ms": "40000",
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
