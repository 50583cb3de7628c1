"""A TCP forwarder whose target can change, as a load balancer's or a service name's does."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

_CHUNK = 1 << 16


class Forwarder:
    """Accepts connections on a port of its own and passes their bytes to and from `target`.

    Attributes:
        target: port of this machine to which new connections go; what is open stays where it is.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        # To close a socket does not wake up who waits for it; to shut it down does.
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with ExitStack() as stack:
                    stack.enter_context(client)
                    with suppress(OSError):
                        target = socket.create_connection(("127.0.0.1", self.target))
                        stack.pop_all()
                        self._open |= {client, target}
                        for pair in ((client, target), (target, client)):
                            threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
