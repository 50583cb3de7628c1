"""Ways of connecting to a secured broker, right and wrong, and the messages that name what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import warnings
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
import uvloop

from lakefeed_common import kafka_client, logs
from lakefeed_common.health import Health
from lakefeed_common.settings import load
from lakefeed_consumer import cli as consumer_cli
from lakefeed_consumer import service
from lakefeed_consumer.faust_driver.topic_check import check_topic
from lakefeed_consumer.metrics import ConsumerMetrics
from lakefeed_consumer.settings import ConsumerSettings
from lakefeed_producer import cli as producer_cli
from lakefeed_producer.kafka.connection import connect
from lakefeed_producer.settings import ProducerSettings
from tests.helpers.commands import Done, run_command, signals_and_logging_as_before
from tests.helpers.credentials import PASSWORD, USER, WRONG_PASSWORD

T = TypeVar("T")

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class Secured(Protocol):
    """A broker that requires certificates, passwords and tokens: the real one, or the stub."""

    def address(self, listener: str) -> str:
        """`PLAIN` needs nothing; the others are named after what they check."""

    def file(self, name: str) -> str:
        """See `write_certificates`."""


@dataclass(frozen=True)
class Way:
    """How a client comes to a listener; `said` is what a user reads when that is wrong.

    `answered` is whether the broker's answer, or its certificate, shows what is wrong. Otherwise the producer
    tries for as long as it may.
    """

    listener: str
    protocol: str
    settings: dict[str, str] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    ca: str = "ca"
    answered: bool = True

    def variables(self, broker: Secured) -> dict[str, str]:
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
MSK = Way(
    "TOKEN",
    "SASL_SSL",
    {"SASL_MECHANISM": "AWS_MSK_IAM"},
    ("does not accept the token", "AWS_REGION=us-east-1", "kafka-cluster:Connect"),
)

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
    "plain-at-tls": Way(
        "TLS", "PLAINTEXT", said=("LAKEFEED_KAFKA_SECURITY_PROTOCOL=PLAINTEXT",), answered=False
    ),
    "tls-at-plain": Way("PLAIN", "SSL", said=("LAKEFEED_KAFKA_SECURITY_PROTOCOL=SSL",), answered=False),
    "tls-without-a-user": Way("SASL", "SSL", said=("LAKEFEED_KAFKA_SECURITY_PROTOCOL=SSL",), answered=False),
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
            "SASL", "SASL_SSL", password(mechanism, user="unknown"), (*_USER, "'unknown'", mechanism)
        )
        for mechanism in MECHANISMS
    },
}


def sign_tokens(patch: pytest.MonkeyPatch, token: Callable[[], str]) -> None:
    """Let AWS's signer make these instead of its own; valid for 15 minutes, it says."""
    patch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret-key")
    patch.setattr(
        "aws_msk_iam_sasl_signer.MSKAuthTokenProvider.generate_auth_token",
        lambda region: (token(), 4_000_000_000_000),
    )


# ---- the producer ----------------------------------------------------------------------------


def publish(csv: Path, topic: str, **variables: str) -> Done:
    """`lakefeed-producer publish`, in this process."""
    # What earlier tests left is collected now, and not in this output.
    with _closing_connections():
        gc.collect()
    return run_command(
        producer_cli.main, "publish", str(csv), "--topic", topic, folder=csv.parent, **variables
    )


def expect_refused_producer(broker: Secured, way: Way, csv: Path, topic: str) -> None:
    """The command ends with 1, and its last line says what to check and where."""
    seconds = "30" if way.answered else "2"
    done = publish(csv, topic, LAKEFEED_KAFKA_TIMEOUT_SECONDS=seconds, **way.variables(broker))
    check_refusal(done.returncode, done.stderr, broker, way)


def check_refusal(returncode: int, stderr: str, broker: Secured, way: Way) -> None:
    assert returncode == 1
    assert all(word in stderr for word in way.said), stderr
    last = stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert broker.address(way.listener) in last
    assert "Traceback" not in stderr, stderr
    assert not secrets_in(stderr)


def expect_connected_producer(broker: Secured, way: Way, topic: str, patch: pytest.MonkeyPatch) -> None:
    """The producer finds its topic."""
    for name, value in way.variables(broker).items():
        patch.setenv(name, value)
    connection = connect(load(ProducerSettings, {"topic": topic}))
    try:
        assert connection.is_usable()
    finally:
        connection.publisher.abandon()


# ---- the consumer ----------------------------------------------------------------------------


def expect_waiting_consumer(broker: Secured, way: Way, topic: str, patch: pytest.MonkeyPatch) -> None:
    """The consumer's start waits, and its readiness says what to check and where."""
    reason, log = first_reason(broker, way, topic, patch)
    assert all(word in reason for word in way.said), reason
    assert broker.address(way.listener) in reason
    assert reason in log
    assert "Traceback" not in log
    assert not secrets_in(log + reason)


def expect_admitted_consumer(broker: Secured, way: Way, topic: str, patch: pytest.MonkeyPatch) -> None:
    """The consumer finds its topic."""
    for name, value in way.variables(broker).items():
        patch.setenv(name, value)
    _run(check_topic(load(ConsumerSettings, {"topic": topic})))


def secrets_in(text: str) -> list[str]:
    return [secret for secret in (PASSWORD, WRONG_PASSWORD) if secret in text]


def first_reason(
    broker: Secured, way: Way, topic: str, patch: pytest.MonkeyPatch, **more: str
) -> tuple[str, str]:
    """The first reason that readiness gives while the consumer starts, and its log."""
    variables = {"LAKEFEED_KAFKA_TIMEOUT_SECONDS": "10", **way.variables(broker), **more}
    for name, value in variables.items():
        patch.setenv(name, value)
    settings = load(ConsumerSettings, {"topic": topic})
    logged = io.StringIO()
    with signals_and_logging_as_before(), contextlib.redirect_stderr(logged):
        logs.configure(settings)
        consumer_cli._quieten()
        reason = _run(_start(settings))
    return reason, logged.getvalue()


@contextlib.contextmanager
def _closing_connections() -> Iterator[None]:
    """A TLS connection that is closing when its loop is closed causes a ResourceWarning: allow that.

    In tests warnings are errors, of whatever test runs when it is collected, and would keep uvloop from
    closing the connection, and then the loop.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield


def _run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the consumer's event loop."""
    with _closing_connections():
        return uvloop.run(main)


async def _start(settings: ConsumerSettings) -> str:
    kafka_client.quiet_lost_connections(asyncio.get_running_loop())
    health = Health(ConsumerMetrics(), ["kafka"], stall_seconds=settings.stall_seconds)
    before = health.readiness().reasons["kafka"]
    waiting = asyncio.create_task(service._until_usable("kafka", partial(check_topic, settings), health))
    try:
        async with asyncio.timeout(60):
            while (reason := health.readiness().reasons.get("kafka", "")) == before:
                assert not waiting.done(), "it is let in"
                await asyncio.sleep(0.01)
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    return reason
