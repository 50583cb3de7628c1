"""TLS, passwords, tokens and rights at a real broker, right and wrong, by the services' own commands."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, urlsplit

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from lakefeed_common.kafka import msk_token
from tests.helpers.secure_broker import PASSWORD, STRANGER, USER, SecureBroker, secure_broker
from tests.helpers.services import Service
from tests.helpers.waiting import wait_for

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
    done = publish(csv, topic, LAKEFEED_KAFKA_TIMEOUT_SECONDS="12", **way.variables(broker))
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


def as_stranger(broker: SecureBroker) -> dict[str, str]:
    return Way("SASL", "SASL_SSL", password("SCRAM-SHA-512", user=STRANGER)).variables(broker)


def test_a_consumer_goes_on_when_the_password_is_right_again(
    broker: SecureBroker, topic: str, bucket: str, csv: Path, stored: Stored, tmp_path: Path
) -> None:
    variables = Way("SASL", "SASL_SSL", password("SCRAM-SHA-512", user="late")).variables(broker)
    assert publish(csv, topic, **RIGHT["tls"].variables(broker)).returncode == 0
    with consumer(tmp_path / "log", topic, bucket, **variables) as service:
        wait_for(lambda: "does not accept the user 'late'" in str(service.unready_reasons()), 60)
        broker.set_password("late", PASSWORD)
        for kind, name in ((ResourceType.TOPIC, topic), (ResourceType.GROUP, "*")):
            broker.allow("late", kind, name, AclOperation.READ)
        wait_for(lambda: stored() == 3, 60, lambda: service.log)
        service.wait_ready()


def test_a_running_consumer_waits_for_its_password(
    broker: SecureBroker, topic: str, bucket: str, csv: Path, stored: Stored, tmp_path: Path
) -> None:
    user = f"user-{uuid.uuid4().hex[:8]}"
    broker.set_password(user, PASSWORD)
    for kind, name in ((ResourceType.TOPIC, topic), (ResourceType.GROUP, "*")):
        broker.allow(user, kind, name, AclOperation.READ)
    assert publish(csv, topic, **RIGHT["tls"].variables(broker)).returncode == 0
    variables = Way("SASL", "SASL_SSL", password("SCRAM-SHA-256", user=user)).variables(broker)
    with consumer(tmp_path / "log", topic, bucket, **variables) as service:
        service.wait_ready()
        wait_for(lambda: stored() == 3, 60, lambda: service.log)
        broker.set_password(user, "another")
        # A password is asked for when a connection is made.
        broker.broker.restart_kafka()
        wait_for(
            lambda: f"does not accept the user '{user}'" in str(service.unready_reasons()),
            60,
            lambda: service.log,
        )
        broker.set_password(user, PASSWORD)
        more = csv.with_name("more.csv")
        more.write_text("n\n4\n5\n6\n")
        assert publish(more, topic, **RIGHT["tls"].variables(broker)).returncode == 0
        wait_for(lambda: stored() == 6, 60, lambda: service.log)
        service.wait_ready()


def test_a_producer_without_rights_says_which(broker: SecureBroker, topic: str, csv: Path) -> None:
    done = publish(csv, topic, **as_stranger(broker))
    assert done.returncode == 1
    assert f"the topic {topic} cannot be made" in done.stderr
    assert "allow the user to CREATE and DESCRIBE it" in done.stderr
    broker.make_topic(topic)
    broker.allow(STRANGER, ResourceType.TOPIC, topic, AclOperation.DESCRIBE)
    done = publish(csv, topic, **as_stranger(broker))
    assert done.returncode == 1
    assert "does not allow this user to write to the topic" in done.stderr
    assert "Traceback" not in done.stderr
    broker.allow(STRANGER, ResourceType.TOPIC, topic, AclOperation.WRITE)
    assert publish(csv, topic, **as_stranger(broker)).returncode == 0
    # What is there already is read back.
    done = publish(csv, topic, **as_stranger(broker))
    assert done.returncode == 1
    assert f"does not allow this user to read the topic {topic}" in done.stderr
    broker.allow(STRANGER, ResourceType.TOPIC, topic, AclOperation.READ)
    done = publish(csv, topic, **as_stranger(broker))
    assert done.returncode == 0, done.stderr


def test_a_consumer_without_rights_waits_and_says_which(
    broker: SecureBroker, topic: str, bucket: str, csv: Path, stored: Stored, tmp_path: Path
) -> None:
    assert publish(csv, topic, **RIGHT["tls"].variables(broker)).returncode == 0
    with consumer(tmp_path / "log", topic, bucket, **as_stranger(broker)) as service:

        def reason() -> str:
            return service.unready_reasons().get("kafka", "")

        wait_for(lambda: f"'{STRANGER}' to read the topic {topic}" in reason(), 60, lambda: service.log)
        broker.allow(STRANGER, ResourceType.TOPIC, topic, AclOperation.READ)
        wait_for(lambda: f"'{STRANGER}' to read the consumer group" in reason(), 60, lambda: service.log)
        assert f"It needs READ on the topic {topic} and on the consumer group" in reason()
        broker.allow(STRANGER, ResourceType.GROUP, "*", AclOperation.READ)
        wait_for(lambda: stored() == 3, 60, lambda: service.log)


# There is no MSK to test against. So its token is looked at by itself, and the way of a token, from the
# function that makes it to the broker and on to a new one, is gone with tokens that nobody has signed, at a
# broker that takes such ones: Kafka's own validator for tests.

TOKEN_SECONDS = 6.0


def with_tokens(made: Path, *command: str, seconds: float = TOKEN_SECONDS) -> str:
    """A program that is a service's own command but for who signs its tokens; each is a line in `made`."""
    return f"""
import sys, time
from pathlib import Path
from lakefeed_common import kafka
from tests.helpers.secure_broker import unsecured_token

def token(region):
    with Path({str(made)!r}).open("a") as file:
        print(region, file=file)
    return unsecured_token({USER!r}, {seconds}), time.time() + {TOKEN_SECONDS}

kafka.msk_token = token
from lakefeed_{command[0]}.cli import main
sys.argv = {list(command)!r}
sys.exit(main())
"""


MSK = Way("TOKEN", "SASL_SSL", {"SASL_MECHANISM": "AWS_MSK_IAM"})
_IMPORTS = {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}


def test_tokens_are_made_anew_before_they_end(
    broker: SecureBroker, topic: str, bucket: str, tmp_path: Path, stored: Stored
) -> None:
    variables = {
        **_IMPORTS,
        "LAKEFEED_TOPIC": topic,
        "LAKEFEED_BUCKET": bucket,
        "LAKEFEED_STATE_FOLDER": str(tmp_path / "state"),
        "LAKEFEED_WATCH_SETTLE_SECONDS": "0",
        **MSK.variables(broker),
    }
    folder, produced, consumed = tmp_path / "data", tmp_path / "produced", tmp_path / "consumed"
    folder.mkdir()

    def tokens(file: Path) -> int:
        return len(file.read_text().splitlines()) if file.exists() else 0

    publishing = with_tokens(produced, "producer", "watch", str(folder))
    consuming = with_tokens(consumed, "consumer", "run")
    worker = Service("consumer", log=tmp_path / "consumer.log", program=consuming, **variables)
    variables["AWS_REGION"] = "eu-west-3"
    producer = Service("producer", log=tmp_path / "producer.log", program=publishing, **variables)

    def said() -> str:
        return f"{producer.log}\n{worker.log}"

    with producer, worker:
        (folder / "first.csv").write_text("n\n1\n2\n3\n")
        wait_for(lambda: stored() == 3, 60, said)
        # The broker ends a connection together with its token.
        before = tokens(produced), tokens(consumed)
        for file, count in zip((produced, consumed), before, strict=True):
            wait_for(partial(lambda file, count: tokens(file) >= count, file, count + 2), 60, said)
        (folder / "second.csv").write_text("n\n4\n5\n6\n")
        wait_for(lambda: stored() == 6, 60, said)
        assert worker.process.poll() is None
        assert producer.process.poll() is None
        assert set(produced.read_text().split()) == {"eu-west-3"}
        assert worker.stop() == 0
        assert producer.stop() == 0


def test_a_token_that_the_broker_does_not_take_is_told(
    broker: SecureBroker, topic: str, bucket: str, csv: Path, tmp_path: Path
) -> None:
    variables = {
        **_IMPORTS,
        "LAKEFEED_TOPIC": topic,
        "LAKEFEED_BUCKET": bucket,
        "LAKEFEED_KAFKA_TIMEOUT_SECONDS": "4",
        **MSK.variables(broker),
    }
    said = ("does not accept the token", "AWS_REGION=us-east-1", "kafka-cluster:Connect")
    publishing = with_tokens(tmp_path / "made", "producer", "publish", str(csv), seconds=-60)
    with Service("producer", log=tmp_path / "producer.log", program=publishing, **variables) as producer:
        assert producer.process.wait(60) == 1
        assert all(word in producer.log.splitlines()[-1] for word in said), producer.log
    consuming = with_tokens(tmp_path / "made", "consumer", "run", seconds=-60)
    with Service("consumer", log=tmp_path / "consumer.log", program=consuming, **variables) as worker:
        wait_for(lambda: "token" in str(worker.unready_reasons()), 60, lambda: worker.log)
        assert all(word in worker.unready_reasons()["kafka"] for word in said)
        assert worker.stop() == 0


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))


def _url_of(token: str) -> SplitResult:
    return urlsplit(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())


@pytest.mark.usefixtures("no_credentials")
def test_a_token_is_a_signed_request_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret-key")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    token, ends = msk_token("eu-west-3")
    assert 880 < ends - time.time() <= 900
    url = _url_of(token)
    query = dict(parse_qsl(url.query))
    assert (url.scheme, url.netloc) == ("https", "kafka.eu-west-3.amazonaws.com")
    assert query["Action"] == "kafka-cluster:Connect"
    assert query["X-Amz-Credential"].startswith("AKIAEXAMPLE/")
    assert query["X-Amz-Credential"].endswith("/eu-west-3/kafka-cluster/aws4_request")
    assert query["X-Amz-Expires"] == "900"
    assert query["X-Amz-Security-Token"] == "session"
    assert "planted-secret-key" not in url.geturl()
    assert len(query["X-Amz-Signature"]) == 64


@pytest.mark.usefixtures("no_credentials")
def test_without_aws_credentials_there_is_no_token(broker: SecureBroker, topic: str, csv: Path) -> None:
    done = publish(csv, topic, **MSK.variables(broker))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: no AWS credentials to sign a token for Amazon MSK")
