"""Planted secrets appear in no output of the services, whether they run well or badly, with DEBUG logs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.helpers.credentials import PASSWORD, USER
from tests.helpers.leaks import SECRET_KEY, SESSION_TOKEN, leaks
from tests.helpers.secure_broker import SecureBroker
from tests.helpers.services import Service
from tests.helpers.waiting import wait_for

UNUSED_PORT = "http://127.0.0.1:1"


@pytest.fixture
def settings(
    monkeypatch: pytest.MonkeyPatch,
    secured: SecureBroker,
    topic: str,
    bucket: str,
    tmp_path: Path,
) -> dict[str, str]:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
    return {
        "LAKEFEED_LOG_LEVEL": "DEBUG",
        "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": secured.address("SASL"),
        "LAKEFEED_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "LAKEFEED_KAFKA_SASL_MECHANISM": "PLAIN",
        "LAKEFEED_KAFKA_SASL_USERNAME": USER,
        "LAKEFEED_KAFKA_SASL_PASSWORD": PASSWORD,
        "LAKEFEED_KAFKA_SSL_CA_FILE": secured.file("ca"),
        "LAKEFEED_KAFKA_TIMEOUT_SECONDS": "4",
        "LAKEFEED_TOPIC": topic,
        "LAKEFEED_BUCKET": bucket,
        "LAKEFEED_STATE_FOLDER": str(tmp_path / "state"),
        "LAKEFEED_WATCH_SETTLE_SECONDS": "0",
    }


# More of them, in this process: tests/unit/security/test_secrets.py.
BAD: dict[str, dict[str, str]] = {
    "refused": {"LAKEFEED_KAFKA_SASL_USERNAME": "unknown"},
    "aws-away": {"AWS_ENDPOINT_URL": UNUSED_PORT},
}


def output_of(service: Service, *paths: str) -> str:
    """All that a running service shows: its log, its command line and its answers."""
    wait_for(lambda: service.get("/healthz")[0], 60, lambda: service.log)
    output = [service.log, Path(f"/proc/{service.process.pid}/cmdline").read_text()]
    for path in ("/metrics", "/readyz", "/healthz", "/", *paths):
        status, body = service.get(path)
        assert status, f"{path}: no answer\n{service.log}"
        output.append(body.decode())
    return "\n".join(output)


def write_csv(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "rows.csv").write_text("n\n1\n2\n3\n")
    return folder


def test_a_run_from_csv_to_table_tells_no_secret(settings: dict[str, str], tmp_path: Path) -> None:
    settings["LAKEFEED_LOG_FORMAT"] = "json"
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
            assert not leaks(output_of(producer))
            assert not leaks(output_of(consumer))
            assert not leaks(
                output_of(analytics, "/v1/tables", "/v1/crawls", "/v1/nonsense", "/openapi.json")
            )
        for service in (producer, consumer, analytics):
            service.stop()
            assert not leaks(service.log)


def said(service: Service) -> set[str]:
    """Why it is not ready, once it has tried."""
    return set(service.unready_reasons().values()) - {"not reached yet"}


@pytest.mark.parametrize("name", BAD)
def test_an_outage_or_a_refusal_tells_no_secret(name: str, settings: dict[str, str], tmp_path: Path) -> None:
    # The other format than that of the run above.
    settings |= {"LAKEFEED_LOG_FORMAT": "text", **BAD[name]}
    data = write_csv(tmp_path / "data")
    with Service("consumer", "run", log=tmp_path / "consumer.log", **settings) as consumer:
        if name == "aws-away":
            other = Service("analytics", "serve", log=tmp_path / "analytics.log", **settings)
            paths = ["/v1/tables", "/v1/crawls"]
        else:
            other = Service("producer", "watch", str(data), log=tmp_path / "producer.log", **settings)
            paths = []
        with other:
            for service in (other, consumer):
                wait_for(partial(said, service), 60, partial(getattr, service, "log"))
                assert not leaks(output_of(service))
            assert not leaks(output_of(other, *paths))
