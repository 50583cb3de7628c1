"""What both services say of a broker that does not let them in: every wrong way, to a stub of the broker.

tests/integration/test_security_kafka.py holds a real one to the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.stub_broker import StubBroker, stub_broker
from tests.helpers.ways import (
    MSK,
    RIGHT,
    WRONG,
    expect_admitted_consumer,
    expect_connected_producer,
    expect_refused_producer,
    expect_waiting_consumer,
    first_reason,
    publish,
    sign_tokens,
)

TOPIC = "events"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubBroker]:
    with stub_broker(tmp_path_factory.mktemp("stub")) as running:
        running.topics.add(TOPIC)
        yield running


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("n\n1\n2\n3\n")
    return path


@pytest.mark.parametrize("name", RIGHT)
def test_who_may_come_in_finds_the_topic(
    broker: StubBroker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_connected_producer(broker, RIGHT[name], TOPIC, monkeypatch)
    expect_admitted_consumer(broker, RIGHT[name], TOPIC, monkeypatch)


@pytest.mark.parametrize("name", WRONG)
def test_the_producer_says_what_to_check(broker: StubBroker, name: str, csv: Path) -> None:
    expect_refused_producer(broker, WRONG[name], csv, TOPIC)


@pytest.mark.parametrize("name", WRONG)
def test_the_consumer_waits_and_says_what_to_check(
    broker: StubBroker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_waiting_consumer(broker, WRONG[name], TOPIC, monkeypatch)


def test_a_token_that_the_broker_refuses_is_reported(
    broker: StubBroker, csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_tokens(monkeypatch, lambda: "a.token.")
    expect_refused_producer(broker, MSK, csv, TOPIC)
    expect_waiting_consumer(broker, MSK, TOPIC, monkeypatch)


def test_without_aws_credentials_there_is_no_token(
    broker: StubBroker, csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    done = publish(csv, TOPIC, **MSK.variables(broker))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "error: a token for Amazon MSK cannot be signed: there are no AWS credentials. Set AWS_ACCESS_KEY_ID"
    )
    assert first_reason(broker, MSK, TOPIC, monkeypatch)[0].startswith(
        "a token for Amazon MSK cannot be signed: there are no AWS credentials"
    )
