"""What is said of a wrong setting, and of a broker that does not let anybody in, holds no secret.

tests/integration/test_security_secrets.py searches what running services say.
"""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakefeed_consumer import cli as consumer
from lakefeed_producer import cli as producer
from tests.helpers.commands import run_command
from tests.helpers.credentials import PASSWORD, USER
from tests.helpers.leaks import SECRET_KEY, SESSION_TOKEN, leaks
from tests.helpers.stub_broker import StubBroker, stub_broker
from tests.helpers.ways import MSK, RIGHT, first_reason

COMMANDS = {"publish x.csv": producer.main, "run": consumer.main}
BAD: dict[str, dict[str, str]] = {
    "refused": {"LAKEFEED_KAFKA_SASL_USERNAME": "unknown"},
    "broker-away": {"LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": "localhost:1"},
    "msk": {},
}
WRONG: dict[str, dict[str, str]] = {
    "no-user": {"LAKEFEED_KAFKA_SASL_USERNAME": ""},
    "no-mechanism": {"LAKEFEED_KAFKA_SASL_MECHANISM": "KERBEROS"},
    "no-port": {"LAKEFEED_HTTP_PORT": "eighty"},
    "no-file": {"LAKEFEED_KAFKA_SSL_CA_FILE": "/nowhere.pem"},
}


def test_the_search_finds_what_is_there() -> None:
    assert leaks(f"x={PASSWORD}")
    assert leaks(urllib.parse.quote(SESSION_TOKEN, safe=""))
    assert leaks(base64.b64encode(b"https://kafka.eu-west-3.amazonaws.com/?Action=").decode())
    assert not leaks("nothing")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubBroker]:
    with stub_broker(tmp_path_factory.mktemp("stub")) as running:
        yield running


@pytest.fixture(autouse=True)
def _planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("name", BAD)
def test_an_outage_or_a_refusal_tells_no_secret(
    broker: StubBroker, name: str, log_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = MSK if name == "msk" else RIGHT["PLAIN"]
    (tmp_path / "rows.csv").write_text("n\n1\n")
    settings = {
        **way.variables(broker),
        "LAKEFEED_LOG_LEVEL": "DEBUG",
        "LAKEFEED_LOG_FORMAT": log_format,
        "LAKEFEED_KAFKA_TIMEOUT_SECONDS": "4",
        **BAD[name],
    }
    done = run_command(producer.main, "publish", "rows.csv", folder=tmp_path, **settings)
    assert done.returncode == 1
    assert settings["LAKEFEED_KAFKA_BOOTSTRAP_SERVERS"] in done.stderr.splitlines()[-1]
    assert not leaks(done.stdout + done.stderr)
    reason, log = first_reason(broker, way, "events", monkeypatch, **settings)
    assert settings["LAKEFEED_KAFKA_BOOTSTRAP_SERVERS"] in reason
    assert "kafka cannot be used" in log
    assert not leaks(reason + log)


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_setting_tells_no_secret(name: str, command: str, tmp_path: Path) -> None:
    settings = {
        "LAKEFEED_LOG_LEVEL": "DEBUG",
        "LAKEFEED_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "LAKEFEED_KAFKA_SASL_MECHANISM": "PLAIN",
        "LAKEFEED_KAFKA_SASL_USERNAME": USER,
        "LAKEFEED_KAFKA_SASL_PASSWORD": PASSWORD,
    }
    done = run_command(COMMANDS[command], *command.split(), folder=tmp_path, **settings | WRONG[name])
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert next(iter(WRONG[name])) in done.stderr or name == "no-user"
    assert not leaks(done.stdout + done.stderr)
