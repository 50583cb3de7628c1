"""TLS, passwords, tokens and rights at a real broker, right and wrong, by the services' own commands."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from tests.helpers.commands import Done
from tests.helpers.credentials import PASSWORD, STRANGER, USER, unsecured_token
from tests.helpers.lake_objects import batch, some_records
from tests.helpers.publishing import start
from tests.helpers.secure_broker import SecureBroker
from tests.helpers.services import Service
from tests.helpers.waiting import wait_for
from tests.helpers.ways import (
    MSK,
    RIGHT,
    WRONG,
    Way,
    check_refusal,
    expect_admitted_consumer,
    expect_refused_producer,
    expect_waiting_consumer,
    password,
    publish,
    secrets_in,
    sign_tokens,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).resolve().parents[2]
# Right ways that whole processes go; those with passwords are further down, and in test_security_secrets.py.
BY_PROCESSES = ("tls", "mutual-tls")


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("n\n1\n2\n3\n")
    return path


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
        LAKEFEED_CONSUMER_GROUP=f"group-{topic}",
        LAKEFEED_SESSION_TIMEOUT_SECONDS="6",
        **variables,
    )


# What a stub of the broker is held to in tests/unit/security/test_kafka_access.py.


@pytest.mark.parametrize("name", RIGHT)
def test_who_may_come_in_publishes_and_finds_the_topic(
    secured: SecureBroker, name: str, topic: str, csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = publish(csv, topic, **RIGHT[name].variables(secured))
    assert done.returncode == 0, done.stderr
    assert not secrets_in(done.stderr)
    expect_admitted_consumer(secured, RIGHT[name], topic, monkeypatch)


@pytest.mark.parametrize("name", WRONG)
def test_the_producer_says_what_to_check(secured: SecureBroker, name: str, topic: str, csv: Path) -> None:
    expect_refused_producer(secured, WRONG[name], csv, topic)


@pytest.mark.parametrize("name", WRONG)
def test_the_consumer_waits_and_says_what_to_check(
    secured: SecureBroker, name: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_waiting_consumer(secured, WRONG[name], topic, monkeypatch)


def test_a_token_that_the_broker_refuses_is_reported(
    secured: SecureBroker, topic: str, csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_tokens(monkeypatch, lambda: unsecured_token(USER, -60))
    expect_refused_producer(secured, MSK, csv, topic)
    expect_waiting_consumer(secured, MSK, topic, monkeypatch)


# Processes, from the environment to the exit code.


@pytest.mark.parametrize("name", BY_PROCESSES)
def test_events_go_all_the_way(
    secured: SecureBroker, name: str, topic: str, bucket: str, csv: Path, stored: Stored, tmp_path: Path
) -> None:
    variables = RIGHT[name].variables(secured)
    assert publish(csv, topic, **variables).returncode == 0
    with consumer(tmp_path / "log", topic, bucket, **variables) as service:
        wait_for(lambda: stored() == 3, 60, lambda: f"{service.get('/readyz')}\n{service.log}")
        service.wait_ready()
        assert service.stop() == 0
        assert not secrets_in(service.log)


def test_a_refused_producer_ends(secured: SecureBroker, topic: str, csv: Path) -> None:
    way = WRONG["wrong-password-SCRAM-SHA-512"]
    command = Path(sys.executable).with_name("lakefeed-producer")
    done = subprocess.run(
        [str(command), "publish", str(csv), "--topic", topic],
        cwd=csv.parent,
        env=os.environ | way.variables(secured),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    check_refusal(done.returncode, done.stderr, secured, way)


def test_a_refused_consumer_lives_and_stops_when_asked_to(
    secured: SecureBroker, topic: str, bucket: str, tmp_path: Path
) -> None:
    way = WRONG["another-authority"]
    with consumer(tmp_path / "log", topic, bucket, **way.variables(secured)) as service:

        def reason() -> str:
            return service.unready_reasons().get("kafka", "")

        wait_for(lambda: all(word in reason() for word in way.said), 60, lambda: f"{reason()}\n{service.log}")
        assert secured.address(way.listener) in reason()
        assert service.get("/healthz")[0] == 200
        assert service.stop() == 0
        assert "Traceback" not in service.log
        assert not secrets_in(service.log)


def as_stranger(secured: SecureBroker) -> dict[str, str]:
    return Way("SASL", "SASL_SSL", password("SCRAM-SHA-512", user=STRANGER)).variables(secured)


def allow_to_read(secured: SecureBroker, user: str, topic: str) -> None:
    for kind, name in ((ResourceType.TOPIC, topic), (ResourceType.GROUP, f"group-{topic}")):
        secured.allow(user, kind, name, AclOperation.READ)


def test_a_consumer_resumes_when_the_password_is_corrected(
    secured: SecureBroker, topic: str, bucket: str, csv: Path, stored: Stored, tmp_path: Path
) -> None:
    user = f"late-{uuid.uuid4().hex[:8]}"
    variables = Way("SASL", "SASL_SSL", password("SCRAM-SHA-512", user=user)).variables(secured)
    assert publish(csv, topic, **RIGHT["tls"].variables(secured)).returncode == 0
    with consumer(tmp_path / "log", topic, bucket, **variables) as service:
        wait_for(lambda: f"does not accept the user '{user}'" in str(service.unready_reasons()), 60)
        assert service.get("/healthz")[0] == 200
        secured.set_password(user, PASSWORD)
        allow_to_read(secured, user, topic)
        wait_for(lambda: stored() == 3, 60, lambda: service.log)
        service.wait_ready()
        assert service.stop() == 0
        assert "Traceback" not in service.log
        assert not secrets_in(service.log)


def test_a_running_consumer_waits_for_its_password(
    secured: SecureBroker, topic: str, bucket: str, csv: Path, stored: Stored, tmp_path: Path
) -> None:
    user = f"user-{uuid.uuid4().hex[:8]}"
    secured.set_password(user, PASSWORD)
    allow_to_read(secured, user, topic)
    assert publish(csv, topic, **RIGHT["tls"].variables(secured)).returncode == 0
    # A password is asked for when a connection is made; here the broker ends each after some seconds.
    variables = Way("BRIEF", "SASL_SSL", password("SCRAM-SHA-256", user=user)).variables(secured)
    with consumer(tmp_path / "log", topic, bucket, **variables) as service:
        service.wait_ready()
        wait_for(lambda: stored() == 3, 60, lambda: service.log)
        secured.set_password(user, "another")
        wait_for(
            lambda: f"does not accept the user '{user}'" in str(service.unready_reasons()),
            60,
            lambda: service.log,
        )
        secured.set_password(user, PASSWORD)
        more = csv.with_name("more.csv")
        more.write_text("n\n4\n5\n6\n")
        assert publish(more, topic, **RIGHT["tls"].variables(secured)).returncode == 0
        wait_for(lambda: stored() == 6, 60, lambda: service.log)
        service.wait_ready()


def test_a_producer_without_rights_says_which(secured: SecureBroker, topic: str, csv: Path) -> None:
    done = publish(csv, topic, **as_stranger(secured))
    assert done.returncode == 1
    assert f"the topic {topic} cannot be created" in done.stderr
    assert "allow the user to CREATE and DESCRIBE it" in done.stderr
    secured.make_topic(topic)
    secured.allow(STRANGER, ResourceType.TOPIC, topic, AclOperation.DESCRIBE)
    done = publish(csv, topic, **as_stranger(secured))
    assert done.returncode == 1
    assert "does not allow this user to write to the topic" in done.stderr
    assert "Traceback" not in done.stderr
    secured.allow(STRANGER, ResourceType.TOPIC, topic, AclOperation.WRITE)
    assert publish(csv, topic, **as_stranger(secured)).returncode == 0
    # What is there already is read back.
    done = publish(csv, topic, **as_stranger(secured))
    assert done.returncode == 1
    assert f"does not allow this user to read the topic {topic}" in done.stderr
    secured.allow(STRANGER, ResourceType.TOPIC, topic, AclOperation.READ)
    done = publish(csv, topic, **as_stranger(secured))
    assert done.returncode == 0, done.stderr


def test_a_consumer_without_rights_waits_and_says_which(
    secured: SecureBroker, topic: str, bucket: str, csv: Path, stored: Stored, tmp_path: Path
) -> None:
    assert publish(csv, topic, **RIGHT["tls"].variables(secured)).returncode == 0
    with consumer(tmp_path / "log", topic, bucket, **as_stranger(secured)) as service:

        def reason() -> str:
            return service.unready_reasons().get("kafka", "")

        wait_for(lambda: f"'{STRANGER}' to read the topic {topic}" in reason(), 60, lambda: service.log)
        secured.allow(STRANGER, ResourceType.TOPIC, topic, AclOperation.READ)
        wait_for(lambda: f"'{STRANGER}' to read the consumer group" in reason(), 60, lambda: service.log)
        assert f"Grant READ on the topic {topic} and on the consumer group" in reason()
        secured.allow(STRANGER, ResourceType.GROUP, f"group-{topic}", AclOperation.READ)
        wait_for(lambda: stored() == 3, 60, lambda: service.log)


def test_a_restore_needs_the_rights_that_are_documented_and_says_which(
    secured: SecureBroker, topic: str, bucket: str, s3: S3Client, tmp_path: Path
) -> None:
    """docs/secured-brokers.md; WRITE and READ each include DESCRIBE."""
    # Younger than the topic's retention.
    records = some_records(range(5), start_ms=time.time_ns() // 1_000_000)
    stored = batch(records)
    s3.put_object(Bucket=bucket, Key=stored.key, Body=stored.body, Metadata=stored.metadata)
    secured.make_topic(topic)

    def restore() -> Done:
        source = f"s3://{bucket}/batches/prices"
        broker = secured.address("SASL")
        with start(
            tmp_path, "restore", source, "--to", topic, kafka=broker, topic=topic, **as_stranger(secured)
        ) as run:
            stdout, stderr = run.communicate(timeout=120)
        return Done(run.returncode, stdout, stderr)

    def allow(kind: ResourceType, name: str, operation: AclOperation) -> None:
        secured.allow(STRANGER, kind, name, operation)

    def refused(*said: str) -> None:
        done = restore()
        assert done.returncode == 1, done.stderr
        assert all(text in done.stderr for text in said), done.stderr
        assert "Traceback" not in done.stderr

    allow(ResourceType.TOPIC, topic, AclOperation.READ)
    refused(f"does not allow this user to read the configuration of the topic {topic}", "DESCRIBE_CONFIGS")
    allow(ResourceType.TOPIC, topic, AclOperation.DESCRIBE_CONFIGS)
    refused(f"use the transactional id lakefeed-restore-{topic}", "WRITE and DESCRIBE")
    allow(ResourceType.TRANSACTIONAL_ID, f"lakefeed-restore-{topic}", AclOperation.WRITE)
    refused("does not allow this user to write to the topic", "WRITE and READ")
    allow(ResourceType.TOPIC, topic, AclOperation.WRITE)
    done = restore()
    assert done.returncode == 0, done.stderr
    # What is there is read back.
    done = restore()
    assert done.returncode == 0, done.stderr
    assert "resuming" in done.stderr


# There is no MSK to test against. So its token is looked at by itself (tests/unit/common/test_kafka.py), and
# the way of a token, from the function that makes it to the broker and on to a new one, is gone with unsigned
# tokens at a broker that takes them: Kafka's own validator for tests.

TOKEN_SECONDS = 4.0


def with_tokens(made: Path, *command: str) -> str:
    """A program that is a service's own command but for who signs its tokens; each is a line in `made`."""
    return f"""
import sys, time
from pathlib import Path
from lakefeed_common import kafka
from tests.helpers.commands import Done
from tests.helpers.credentials import unsecured_token

def token(region):
    with Path({str(made)!r}).open("a") as file:
        print(region, file=file)
    return unsecured_token({USER!r}, {TOKEN_SECONDS}), time.time() + {TOKEN_SECONDS}

kafka.msk_token = token
from lakefeed_{command[0]}.cli import main
sys.argv = {list(command)!r}
sys.exit(main())
"""


_IMPORTS = {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}


def test_tokens_are_renewed_before_they_expire(
    secured: SecureBroker, topic: str, bucket: str, tmp_path: Path, stored: Stored
) -> None:
    variables = {
        **_IMPORTS,
        "LAKEFEED_TOPIC": topic,
        "LAKEFEED_BUCKET": bucket,
        "LAKEFEED_STATE_FOLDER": str(tmp_path / "state"),
        "LAKEFEED_WATCH_SETTLE_SECONDS": "0",
        **MSK.variables(secured),
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
