from __future__ import annotations

import logging
import urllib.error
import urllib.request

import orjson
import pytest

from lakefeed_common.errors import SettingsError
from lakefeed_common.health import Health
from lakefeed_common.metrics import ServiceMetrics
from lakefeed_common.settings import ServiceSettings, load
from lakefeed_common.web import StatusServer


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make(*dependencies: str) -> tuple[Health, Clock, ServiceMetrics]:
    clock, metrics = Clock(), ServiceMetrics("common")
    return Health(metrics, dependencies, stall_seconds=30, clock=clock), clock, metrics


def test_a_silent_loop_fails_liveness_until_it_beats_again() -> None:
    health, clock, _ = make()
    assert health.liveness().ok
    health.beat("agent")
    clock.now = 30
    assert health.liveness().ok
    clock.now = 31
    assert health.liveness().reasons == {"agent": "silent for 31 s"}
    health.beat("agent")
    assert health.liveness().ok


def test_a_retired_loop_is_watched_no_more() -> None:
    health, clock, _ = make()
    health.beat("start")
    health.retire("start")
    clock.now = 100
    assert health.liveness().ok


def test_readiness_requires_every_dependency_and_sets_the_metric() -> None:
    health, _, metrics = make("kafka", "bucket")
    assert set(health.readiness().reasons) == {"kafka", "bucket"}
    health.ready("kafka")
    health.unready("bucket", "there is no such bucket")
    assert health.readiness().reasons == {"bucket": "there is no such bucket"}
    assert metrics.registry.get_sample_value("lakefeed_ready", {"dependency": "kafka"}) == 1
    assert metrics.registry.get_sample_value("lakefeed_ready", {"dependency": "bucket"}) == 0


def test_a_lasting_reason_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    health, _, _ = make("kafka")
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            health.unready("kafka", "away")
        health.ready("kafka")
        health.ready("kafka")
    assert [record.message for record in caplog.records] == [
        "kafka cannot be used: away",
        "kafka can be used",
    ]


def test_alternating_reasons_are_logged_once_a_minute_each(caplog: pytest.LogCaptureFixture) -> None:
    health, clock, _ = make("bucket")
    with caplog.at_level(logging.INFO):
        for clock.now in range(61):
            health.unready("bucket", "refused")
            health.unready("bucket", "reset")
        assert health.readiness().reasons == {"bucket": "reset"}
        health.ready("bucket")
        health.unready("bucket", "refused")
    assert [record.message for record in caplog.records] == [
        *("bucket cannot be used: refused", "bucket cannot be used: reset") * 2,
        "bucket can be used",
        "bucket cannot be used: refused",
    ]


def get(port: int, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_the_status_server_answers_metrics_and_health() -> None:
    health, _, metrics = make("kafka")
    with StatusServer(load(ServiceSettings, {"http_port": 0}), metrics, health) as server:
        assert get(server.port, "/healthz") == (200, orjson.dumps({"ok": True, "reasons": {}}))
        status, body = get(server.port, "/readyz")
        assert (status, orjson.loads(body)["reasons"]) == (503, {"kafka": "not reached yet"})
        health.ready("kafka")
        assert get(server.port, "/readyz")[0] == 200
        assert b"lakefeed_build_info" in get(server.port, "/metrics")[1]
        assert get(server.port, "/")[0] == 200
        assert get(server.port, "/secret")[0] == 404


def test_a_taken_port_is_a_wrong_setting() -> None:
    health, _, metrics = make()
    with (
        StatusServer(load(ServiceSettings, {"http_port": 0}), metrics, health) as server,
        pytest.raises(SettingsError, match=f"LAKEFEED_HTTP_PORT={server.port}"),
    ):
        StatusServer(load(ServiceSettings, {"http_port": server.port}), metrics, health)
