"""An HTTP server for tests whose clients may disappear."""

from __future__ import annotations

from http.server import ThreadingHTTPServer
from typing import Any


class QuietServer(ThreadingHTTPServer):
    """Reports no errors of connections, whose tracebacks would appear in the output of a later test."""

    daemon_threads = True
    # A connection that is held may outlive the test; its thread ends with its client.
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle is not reported."""
