"""The consumer's settings: values that are accepted under an old name."""

from __future__ import annotations

import asyncio

import pytest

from lakefeed_common.errors import SettingsError
from lakefeed_common.settings import load
from lakefeed_consumer import service
from lakefeed_consumer.settings import S3_CLIENTS, ConsumerSettings


def test_the_fast_client_is_accepted_under_its_old_name_and_deprecated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAKEFEED_S3_CLIENT", "lean")
    settings = load(ConsumerSettings)
    assert settings.s3_client == "fast"
    assert settings.deprecations == ("LAKEFEED_S3_CLIENT=lean is deprecated; set LAKEFEED_S3_CLIENT=fast",)


@pytest.mark.parametrize("name", S3_CLIENTS)
def test_a_clients_name_is_not_deprecated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED_S3_CLIENT", name)
    settings = load(ConsumerSettings)
    assert settings.s3_client == name
    assert settings.deprecations == ()


def test_another_client_is_an_error_that_names_the_allowed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED_S3_CLIENT", "boto3")
    with pytest.raises(SettingsError, match=r"LAKEFEED_S3_CLIENT='boto3': .*'fast' or 'obstore'"):
        load(ConsumerSettings)


def test_a_deprecated_value_is_logged_at_the_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class StopError(Exception):
        pass

    def stop(*_: object) -> None:
        raise StopError

    monkeypatch.setattr(service, "ConsumerMetrics", stop)
    monkeypatch.setattr("asyncio.BaseEventLoop.add_signal_handler", stop, raising=False)
    with pytest.raises(StopError):
        asyncio.run(service.run(load(ConsumerSettings, {"s3_client": "lean"})))
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "LAKEFEED_S3_CLIENT=lean is deprecated; set LAKEFEED_S3_CLIENT=fast"
    ]
