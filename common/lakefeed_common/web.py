"""The web server for `/metrics`, `/healthz` and `/readyz`, in a separate thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import orjson
from prometheus_client import make_wsgi_app

from lakefeed_common.addresses import listen
from lakefeed_common.health import Health, Report
from lakefeed_common.metrics import ServiceMetrics
from lakefeed_common.settings import ServiceSettings
from lakefeed_common.text import printable

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


def body(report: Report) -> bytes:
    """A health report as JSON: `{"ok": …, "reasons": {…}}`."""
    return orjson.dumps(
        {"ok": report.ok, "reasons": {name: printable(reason) for name, reason in report.reasons.items()}}
    )


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(("", 0), _SilentHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        # The base class resolves the machine's name, which can take many seconds without a name server.
        self.server_name, self.server_port = "localhost", listener.getsockname()[1]
        self.setup_environ()


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Do not log scrapes and probes."""


class StatusServer:
    """Serves metrics and health from a thread, so that a busy work loop does not block them."""

    def __init__(self, settings: ServiceSettings, metrics: ServiceMetrics, health: Health) -> None:
        self._health = health
        self._metrics_app = make_wsgi_app(metrics.registry)
        self._server = _Server(listen(settings.http_host, settings.http_port, "LAKEFEED_HTTP_PORT"))
        self._server.set_app(self._answer)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="status-server", daemon=True)

    def __enter__(self) -> StatusServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                answer: Iterable[bytes] = self._metrics_app(environ, start)
                return answer
            case "/healthz":
                return self._report(self._health.liveness(), start)
            case "/readyz":
                return self._report(self._health.readiness(), start)
            case "/":
                start("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
                return [b"/metrics\n/healthz\n/readyz\n"]
            case _:
                start("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
                return [b"not found: there are /metrics, /healthz and /readyz\n"]

    @staticmethod
    def _report(report: Report, start: StartResponse) -> Iterable[bytes]:
        phrase = "OK" if report.ok else "Service Unavailable"
        start(f"{report.status} {phrase}", [("Content-Type", "application/json")])
        return [body(report)]
