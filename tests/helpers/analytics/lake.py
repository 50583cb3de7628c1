"""The HTTP API in a real server, over fakes."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from lakefeed_analytics import api
from lakefeed_analytics.metrics import AnalyticsMetrics
from lakefeed_analytics.parts import Parts
from lakefeed_analytics.queries import NamedQueries
from lakefeed_analytics.server import http_config
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_analytics.watch import QueryWatch
from lakefeed_common.health import Health
from tests.helpers.analytics.fakes import Answer, MemoryCatalogue, MemoryCrawler, MemoryEngine, MemoryFolders

NUMBERS = "SELECT n FROM numbers"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For httpx, which would else read all certificates for each client."""


@dataclass
class Lake:
    http: httpx.Client
    catalogue: MemoryCatalogue
    crawler: MemoryCrawler
    engine: MemoryEngine
    health: Health
    metrics: AnalyticsMetrics
    woken: list[bool]

    def start(self, sql: str) -> str:
        answer = self.http.post("/v1/queries", json={"sql": sql})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])


@cache
def named_queries() -> NamedQueries:
    """The named queries, whose SQL is parsed once."""
    return NamedQueries(AnalyticsSettings().queries_folder)


@contextmanager
def served(app: FastAPI) -> Iterator[httpx.Client]:
    """The app in a real server, since what a client gets is what counts."""
    server = uvicorn.Server(http_config(app))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=url, verify=NO_TLS, timeout=60) as http:
                yield http
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture
def lake() -> Iterator[Lake]:
    settings = AnalyticsSettings(topic="prices")
    catalogue, crawler, engine = MemoryCatalogue(), MemoryCrawler(), MemoryEngine()
    engine.answers[NUMBERS] = Answer([("n", "bigint")], [[n] for n in range(25)], scanned_bytes=10**9)
    parts = Parts({}, catalogue, crawler, MemoryFolders(), engine)
    named = named_queries()
    metrics = AnalyticsMetrics(query.name for query in named)
    health = Health(metrics, ["glue"], stall_seconds=30)
    woken: list[bool] = []
    watch = QueryWatch(engine, metrics, settings)
    app = api.build(api.Context(parts, named, watch, metrics, health, settings, lambda: woken.append(True)))
    with served(app) as http:
        yield Lake(http, catalogue, crawler, engine, health, metrics, woken)
