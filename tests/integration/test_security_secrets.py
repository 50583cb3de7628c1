"""Secrets are planted, the services run well and badly with DEBUG logs, and all that is told is searched."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.helpers.secure_broker import PASSWORD, USER, SecureBroker, secure_broker
from tests.helpers.services import Service
from tests.helpers.waiting import wait_for

SECRET_KEY = "planted+secret/key-0c1d"
SESSION_TOKEN = "planted+session/token-7a9e"
SECRETS = (PASSWORD, SECRET_KEY, SESSION_TOKEN)
# A signed request is as good as a password for as long as it lasts.
SIGNED = ("X-Amz-Signature=", base64.b64encode(b"https://kafka.")[:18].decode())
NOBODY = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    with secure_broker(tmp_path_factory.mktemp("secure")) as running:
        yield running


@pytest.fixture
def settings(
    monkeypatch: pytest.MonkeyPatch,
    broker: SecureBroker,
    topic: str,
    bucket: str,
    tmp_path: Path,
) -> dict[str, str]:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
    return {
        "LAKEFEED_LOG_LEVEL": "DEBUG",
        "LAKEFEED_LOG_FORMAT": "json",
        "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": broker.address("SASL"),
        "LAKEFEED_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "LAKEFEED_KAFKA_SASL_MECHANISM": "PLAIN",
        "LAKEFEED_KAFKA_SASL_USERNAME": USER,
        "LAKEFEED_KAFKA_SASL_PASSWORD": PASSWORD,
        "LAKEFEED_KAFKA_SSL_CA_FILE": broker.file("ca"),
        "LAKEFEED_KAFKA_TIMEOUT_SECONDS": "4",
        "LAKEFEED_TOPIC": topic,
        "LAKEFEED_BUCKET": bucket,
        "LAKEFEED_STATE_FOLDER": str(tmp_path / "state"),
        "LAKEFEED_WATCH_SETTLE_SECONDS": "0",
    }


BAD: dict[str, dict[str, str]] = {
    "refused": {"LAKEFEED_KAFKA_SASL_USERNAME": "nobody"},
    "broker-away": {"LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": "localhost:1"},
    "aws-away": {"AWS_ENDPOINT_URL": NOBODY},
    "msk": {"LAKEFEED_KAFKA_SASL_MECHANISM": "AWS_MSK_IAM"},
}
WRONG: dict[str, dict[str, str]] = {
    "no-user": {"LAKEFEED_KAFKA_SASL_USERNAME": ""},
    "no-mechanism": {"LAKEFEED_KAFKA_SASL_MECHANISM": "KERBEROS"},
    "no-port": {"LAKEFEED_HTTP_PORT": "eighty"},
    "no-file": {"LAKEFEED_KAFKA_SSL_CA_FILE": "/nowhere.pem"},
}


def leaks(text: str) -> list[str]:
    """What of the secrets is in a text, as it is, quoted for JSON or an address, or encoded."""
    forms = {
        form: secret
        for secret in SECRETS
        for form in (
            secret,
            json.dumps(secret)[1:-1],
            urllib.parse.quote(secret, safe=""),
            base64.b64encode(secret.encode()).decode().rstrip("="),
            base64.b64encode(f"\0{USER}\0{secret}".encode()).decode().rstrip("="),
        )
    }
    return [f"{secret} as {form}" for form, secret in forms.items() if form in text] + [
        word for word in SIGNED if word in text
    ]


def test_the_search_finds_what_is_there() -> None:
    assert leaks(f"x={PASSWORD}")
    assert leaks(urllib.parse.quote(SESSION_TOKEN, safe=""))
    assert leaks(base64.b64encode(b"https://kafka.eu-west-3.amazonaws.com/?Action=").decode())
    assert not leaks("nothing")


def told_by(service: Service, *paths: str) -> str:
    """All that a running service shows: its log, its command line and its answers."""
    wait_for(lambda: service.get("/healthz")[0], 60, lambda: service.log)
    told = [service.log, Path(f"/proc/{service.process.pid}/cmdline").read_text()]
    for path in ("/metrics", "/readyz", "/healthz", "/", *paths):
        status, body = service.get(path)
        assert status, f"{path}: no answer\n{service.log}"
        told.append(body.decode())
    return "\n".join(told)


def run(settings: dict[str, str], *command: str) -> tuple[int, str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        program = str(Path(sys.executable).with_name(command[0]))
        done = subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, check=False, timeout=120
        )
    return done.returncode, done.stdout + done.stderr


def write_csv(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "rows.csv").write_text("n\n1\n2\n3\n")
    return folder


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_run_from_csv_to_table_tells_no_secret(
    log_format: str, settings: dict[str, str], tmp_path: Path
) -> None:
    settings["LAKEFEED_LOG_FORMAT"] = log_format
    data = write_csv(tmp_path / "data")
    with (
        Service("producer", "watch", str(data), log=tmp_path / "producer.log", **settings) as producer,
        Service("consumer", "run", log=tmp_path / "consumer.log", **settings) as consumer,
        Service("analytics", "serve", log=tmp_path / "analytics.log", **settings) as analytics,
    ):
        wait_for(
            lambda: consumer.metric("lakefeed_consumer_objects_total", outcome="stored") == 3,
            60,
            lambda: f"{producer.log}\n{consumer.log}",
        )
        for service in (producer, consumer, analytics):
            service.wait_ready()
        for _ in range(3):
            assert not leaks(told_by(producer))
            assert not leaks(told_by(consumer))
            assert not leaks(told_by(analytics, "/v1/tables", "/v1/crawls", "/v1/nonsense", "/openapi.json"))
        for service in (producer, consumer, analytics):
            service.stop()
            assert not leaks(service.log)


def said(service: Service) -> set[str]:
    """Why it is not ready, once it has tried."""
    return set(service.unready_reasons().values()) - {"not reached yet"}


@pytest.mark.parametrize("name", BAD)
def test_an_outage_or_a_refusal_tells_no_secret(name: str, settings: dict[str, str], tmp_path: Path) -> None:
    settings |= BAD[name]
    data = write_csv(tmp_path / "data")
    _, told = run(settings, "lakefeed-producer", "publish", str(data / "rows.csv"))
    assert not leaks(told)
    with (
        Service("producer", "watch", str(data), log=tmp_path / "producer.log", **settings) as producer,
        Service("consumer", "run", log=tmp_path / "consumer.log", **settings) as consumer,
        Service("analytics", "serve", log=tmp_path / "analytics.log", **settings) as analytics,
    ):
        suffering = analytics if name == "aws-away" else producer
        for service in (suffering, consumer):
            wait_for(partial(said, service), 60, partial(getattr, service, "log"))
        for service in (producer, consumer, analytics):
            assert not leaks(told_by(service))
        assert not leaks(told_by(analytics, "/v1/tables", "/v1/crawls"))


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("command", ["producer publish x.csv", "consumer run"])
def test_a_wrong_setting_tells_no_secret(name: str, command: str, settings: dict[str, str]) -> None:
    code, told = run(settings | WRONG[name], *f"lakefeed-{command}".split())
    assert code == 2, told
    assert told.startswith("error: ")
    assert not leaks(told)
