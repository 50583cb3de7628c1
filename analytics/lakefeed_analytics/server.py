"""Runs `serve`: the API in the main thread, the work loop in another one, until a signal arrives."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from lakefeed_analytics import api
from lakefeed_analytics.ensure import DEPENDENCIES
from lakefeed_analytics.metrics import AnalyticsMetrics
from lakefeed_analytics.parts import connect
from lakefeed_analytics.queries import NamedQueries
from lakefeed_analytics.service import LOOP, Service
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_analytics.watch import QueryWatch
from lakefeed_common.addresses import join, listen
from lakefeed_common.console import stop_on_signals
from lakefeed_common.health import Health

log = logging.getLogger(__name__)

_GRACE_SECONDS = 5
_REQUEST_SECONDS = 30


def serve(settings: AnalyticsSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises SettingsError if the port or the queries cannot be used."""
    # uvicorn handles the signals while it serves, and raises them again afterwards for this event.
    with working(settings, stop_on_signals()) as (app, listener):
        log.info("Serving on http://%s, documentation at /docs", join(*listener.getsockname()[:2]))
        uvicorn.Server(http_config(app)).run(sockets=[listener])
    log.info("stopped")


@contextmanager
def working(settings: AnalyticsSettings, stop: threading.Event) -> Iterator[tuple[FastAPI, socket.socket]]:
    """Run the work loop within the `with` block; yields the API and the socket to serve it on.

    Raises:
        SettingsError: the port or the queries cannot be used.
    """
    named = NamedQueries(settings.queries_folder)
    metrics = AnalyticsMetrics(query.name for query in named)
    health = Health(metrics, DEPENDENCIES, stall_seconds=settings.stall_seconds)

    def moving() -> None:
        # The API's threads also call AWS, which says nothing about the loop.
        if threading.current_thread() is loop:
            health.beat(LOOP)

    with (
        connect(settings, moving) as parts,
        listen(settings.http_host, settings.http_port, "LAKEFEED_HTTP_PORT") as listener,
    ):
        watch = QueryWatch(parts.engine, metrics, settings, named=named)
        service = Service(parts, watch, metrics, health, settings)
        app = api.build(api.Context(parts, named, watch, metrics, health, settings, service.wake))
        # A daemon thread, because a call to AWS without a response must not block the exit.
        loop = threading.Thread(target=service.run, args=(stop,), name="work-loop", daemon=True)
        loop.start()
        try:
            yield app, listener
        finally:
            stop.set()
            loop.join(_GRACE_SECONDS)


def http_config(app: FastAPI) -> uvicorn.Config:
    """The uvicorn configuration of the API."""
    return uvicorn.Config(
        app,
        http=PatientProtocol,
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


class PatientProtocol(H11Protocol):
    """HTTP with a timeout for slow clients: an incomplete request would keep its connection open forever."""

    _dawdles: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Handle more data of a request, perhaps its end."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        if self._dawdles is not None:
            self._dawdles.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Run a timer until the request is complete."""
        incomplete = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if incomplete and self._dawdles is None:
            self._dawdles = self.loop.call_later(_REQUEST_SECONDS, self.transport.close)
        elif not incomplete and self._dawdles is not None:
            self._dawdles.cancel()
            self._dawdles = None
