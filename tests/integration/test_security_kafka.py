"""TLS, passwords, tokens and rights at a real broker, right and wrong, by the services' own commands."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.secure_broker import PASSWORD, USER, SecureBroker, secure_broker
from tests.services import Service
from tests.support import wait_for

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).resolve().parents[2]
WRONG_PASSWORD = "wrong-password-91ab"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True)
class Way:
    """How a client comes to a listener; `said` is what a user reads when that is wrong."""

    listener: str
    protocol: str
    settings: dict[str, str] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    ca: str = "ca"

    def variables(self, broker: SecureBroker) -> dict[str, str]:
        files = {"SSL_CA_FILE": self.ca} if self.protocol.endswith("SSL") and self.ca else {}
        files |= {key: value for key, value in self.settings.items() if key.endswith("_FILE")}
        return {
            "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": broker.address(self.listener),
            "LAKEFEED_KAFKA_SECURITY_PROTOCOL": self.protocol,
            **{f"LAKEFEED_KAFKA_{key}": value for key, value in self.settings.items()},
            **{f"LAKEFEED_KAFKA_{key}": broker.file(name) for key, name in files.items()},
        }


def password(mechanism: str, user: str = USER, secret: str = PASSWORD) -> dict[str, str]:
    return {"SASL_MECHANISM": mechanism, "SASL_USERNAME": user, "SASL_PASSWORD": secret}


def client(certificate: str) -> dict[str, str]:
    return {"SSL_CERTIFICATE_FILE": certificate}


RIGHT = {
    "tls": Way("TLS", "SSL"),
    "mutual-tls": Way("MUTUAL", "SSL", client("client")),
    **{mechanism: Way("SASL", "SASL_SSL", password(mechanism)) for mechanism in MECHANISMS},
}

_CERTIFICATE = ("no secure connection", "LAKEFEED_KAFKA_SSL_CA_FILE", "expired", "this host name")
_OURS = ("does not accept this client's certificate", "LAKEFEED_KAFKA_SSL_CERTIFICATE_FILE")
_USER = ("does not accept the user", "LAKEFEED_KAFKA_SASL_USERNAME", "LAKEFEED_KAFKA_SASL_PASSWORD")
WRONG = {
    "another-authority": Way("TLS", "SSL", said=_CERTIFICATE, ca="other-ca"),
    "the-systems-authorities": Way("TLS", "SSL", said=_CERTIFICATE, ca=""),
    "another-host": Way("OTHERHOST", "SSL", said=_CERTIFICATE),
    "expired": Way("EXPIRED", "SSL", said=_CERTIFICATE),
    "no-client-certificate": Way("MUTUAL", "SSL", said=_OURS),
    "client-of-another-authority": Way("MUTUAL", "SSL", client("other-client"), _OURS),
    "expired-client": Way("MUTUAL", "SSL", client("expired-client"), _OURS),
    "plain-at-tls": Way("TLS", "PLAINTEXT", said=("LAKEFEED_KAFKA_SECURITY_PROTOCOL=PLAINTEXT",)),
    "tls-at-plain": Way("PLAIN", "SSL", said=("LAKEFEED_KAFKA_SECURITY_PROTOCOL=SSL",)),
    "tls-without-a-user": Way("SASL", "SSL", said=("LAKEFEED_KAFKA_SECURITY_PROTOCOL=SSL",)),
    "a-user-where-none-is-asked-for": Way("TLS", "SASL_SSL", password("PLAIN"), _USER),
    "another-mechanism": Way(
        "TOKEN", "SASL_SSL", password("PLAIN"), (*_USER, "LAKEFEED_KAFKA_SASL_MECHANISM")
    ),
    **{
        f"wrong-password-{mechanism}": Way(
            "SASL", "SASL_SSL", password(mechanism, secret=WRONG_PASSWORD), (*_USER, repr(USER), mechanism)
        )
        for mechanism in MECHANISMS
    },
    **{
        f"unknown-user-{mechanism}": Way(
            "SASL", "SASL_SSL", password(mechanism, user="nobody"), (*_USER, "'nobody'", mechanism)
        )
        for mechanism in MECHANISMS
    },
}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    with secure_broker(tmp_path_factory.mktemp("secure")) as running:
        yield running


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("n\n1\n2\n3\n")
    return path


def publish(csv: Path, topic: str, **variables: str) -> subprocess.CompletedProcess[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return subprocess.run(
            [str(Path(sys.executable).with_name("lakefeed-producer")), "publish", str(csv), "--topic", topic],
            cwd=csv.parent,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def stored(s3: S3Client, bucket: str, topic: str) -> Stored:
    return Stored(s3, bucket, topic)


@dataclass
class Stored:
    """The topic's objects."""

    s3: S3Client
    bucket: str
    topic: str

    def __call__(self) -> int:
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"events/{self.topic}/")
        return int(found.get("KeyCount", 0))


def consumer(log: Path, topic: str, bucket: str, **variables: str) -> Service:
    return Service(
        "consumer",
        "run",
        log=log,
        LAKEFEED_TOPIC=topic,
        LAKEFEED_BUCKET=bucket,
        LAKEFEED_CONSUMER_GROUP=f"group-{uuid.uuid4().hex[:8]}",
        LAKEFEED_SESSION_TIMEOUT_SECONDS="6",
        **variables,
    )


@pytest.mark.parametrize("name", RIGHT)
def test_events_go_all_the_way(
    broker: SecureBroker, name: str, topic: str, bucket: str, csv: Path, stored: Stored, tmp_path: Path
) -> None:
    variables = RIGHT[name].variables(broker)
    done = publish(csv, topic, **variables)
    assert done.returncode == 0, done.stderr
    with consumer(tmp_path / "log", topic, bucket, **variables) as service:
        wait_for(lambda: stored() == 3, 60, lambda: f"{service.get('/readyz')}\n{service.log}")
        service.wait_ready()
        assert service.stop() == 0
        assert PASSWORD not in done.stdout + done.stderr + service.log


@pytest.mark.parametrize("name", WRONG)
def test_the_producer_says_what_to_check(broker: SecureBroker, name: str, topic: str, csv: Path) -> None:
    way = WRONG[name]
    done = publish(csv, topic, LAKEFEED_KAFKA_TIMEOUT_SECONDS="4", **way.variables(broker))
    assert done.returncode == 1
    assert all(word in done.stderr for word in way.said), done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert broker.address(way.listener) in last
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stderr
    assert WRONG_PASSWORD not in done.stderr


@pytest.mark.parametrize("name", WRONG)
def test_the_consumer_waits_and_says_what_to_check(
    broker: SecureBroker, name: str, topic: str, bucket: str, tmp_path: Path
) -> None:
    way = WRONG[name]
    variables = {"LAKEFEED_KAFKA_TIMEOUT_SECONDS": "4", **way.variables(broker)}
    with consumer(tmp_path / "log", topic, bucket, **variables) as service:

        def reason() -> str:
            return service.unready_reasons().get("kafka", "")

        wait_for(lambda: all(word in reason() for word in way.said), 60, lambda: f"{reason()}\n{service.log}")
        assert broker.address(way.listener) in reason()
        assert service.get("/healthz")[0] == 200
        assert service.stop() == 0
        assert "Traceback" not in service.log
        for secret in (PASSWORD, WRONG_PASSWORD):
            assert secret not in service.log + reason()
