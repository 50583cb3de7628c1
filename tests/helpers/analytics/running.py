"""Runs the analytics service in the test's process: a test that kills nothing needs no process of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from unittest import mock

import uvicorn

from lakefeed_analytics.server import http_config, working
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common.logs import TextFormatter
from lakefeed_common.settings import load
from tests.helpers.services import Endpoint, Service

Start = Callable[..., Endpoint]
StartProcess = Callable[..., Service]


class RunningAnalytics(Endpoint):
    """What `lakefeed-analytics serve` runs, from `with` to the end of it.

    Args:
        log: file that takes what the process logs meanwhile.
        settings: environment variables on top of this process's own.
    """

    def __init__(self, log: Path, **settings: str) -> None:
        with mock.patch.dict("os.environ", {**settings, "LAKEFEED_HTTP_PORT": "0"}):
            self._settings = load(AnalyticsSettings)
        self._log = log
        self._held = ExitStack()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        with ExitStack() as held:
            held.enter_context(_logged(self._log))
            app, listener = held.enter_context(working(self._settings, threading.Event()))
            self.port = listener.getsockname()[1]
            self._server = uvicorn.Server(http_config(app))
            self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
            self._thread.start()
            self._held = held.pop_all()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stop(self, timeout: float = 40) -> int:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout)
            assert not self._thread.is_alive(), "the server does not end"
        self._held.close()
        return 0


@contextmanager
def _logged(file: Path) -> Iterator[None]:
    """Write what this process logs into a file, as the service writes it to standard error."""
    handler, level = logging.FileHandler(file), logging.root.level
    handler.setFormatter(TextFormatter())
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.INFO)
    try:
        yield
    finally:
        logging.root.setLevel(level)
        logging.root.removeHandler(handler)
        handler.close()
