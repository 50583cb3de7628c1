"""Tests of the token for Amazon MSK."""

from __future__ import annotations

import base64
import os
import time
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

import pytest

from lakefeed_common.errors import RefusedError
from lakefeed_common.kafka import msk_token


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))


def _url_of(token: str) -> SplitResult:
    return urlsplit(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())


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


def test_without_credentials_there_is_none() -> None:
    with pytest.raises(RefusedError, match="a token for Amazon MSK cannot be signed: there are no AWS cred"):
        msk_token("eu-west-3")
