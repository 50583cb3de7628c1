"""Every failure of an S3 server is either retried or waits for a fix."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from lakefeed_common.settings import load
from lakefeed_consumer.object_store import ObjectStore, StoreRefusedError, StoreUnavailableError
from lakefeed_consumer.s3.client import open_store
from lakefeed_consumer.settings import S3_CLIENTS, ConsumerSettings
from tests.helpers.consuming import run
from tests.helpers.http_server import serving


class Answers(BaseHTTPRequestHandler):
    """Answers a put with the status and code in the last part of its key."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, code = self.path.rsplit("/", 1)[1].split("-")
        if code == "Reset":
            self.connection.close()
            return
        if code == "Late":
            time.sleep(5)
        body = f"<Error><Code>{code}</Code></Error>".encode()
        self.send_response(int(status))
        self.send_header("ETag", '"0"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(params=S3_CLIENTS)
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with serving(Answers) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-secret")
        yield open_store(load(ConsumerSettings, {"put_timeout_seconds": 2, "s3_client": request.param}))


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ("503-SlowDown", "slow_down"),
        ("429-TooManyRequests", "slow_down"),
        ("500-InternalError", "server_error"),
        ("502-BadGateway", "server_error"),
        ("400-RequestTimeout", "other"),
        ("403-RequestTimeTooSkewed", "other"),
        ("200-Late", "timeout"),
        ("200-Reset", "connection"),
    ],
)
def test_a_transient_failure_is_unavailable(store: ObjectStore, answer: str, cause: str) -> None:
    with pytest.raises(StoreUnavailableError) as caught:
        run(store, lambda: store.create(answer, b"{}"))
    assert caught.value.cause == cause
    # The reason of a state must not change with each key.
    assert answer not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("403-AccessDenied", "refused with AccessDenied"),
        ("403-InvalidAccessKeyId", "refused with InvalidAccessKeyId"),
        ("403-SignatureDoesNotMatch", "refused with SignatureDoesNotMatch"),
        ("400-ExpiredToken", "refused with ExpiredToken"),
        ("404-NoSuchBucket", "no such bucket"),
        ("301-PermanentRedirect", "AWS_REGION"),
    ],
)
def test_a_failure_that_needs_a_fix_is_refused(store: ObjectStore, answer: str, expected: str) -> None:
    with pytest.raises(StoreRefusedError, match=expected) as caught:
        run(store, lambda: store.create(answer, b"{}"))
    assert "hidden-secret" not in str(caught.value)
