"""A broker's front door in this process: TLS, SASL, and as much of Kafka's protocol as a first answer needs.

Its answers are those of Kafka 3.9, byte for byte where a client looks at them; test_security_kafka.py holds
both to the same messages. Certificates are checked by OpenSSL here and by Java there: the alerts for a
client's certificate have other names.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.helpers.credentials import PASSWORD, USER, write_certificates

_MECHANISMS = ("PLAIN", "SCRAM-SHA-512", "SCRAM-SHA-256")
_HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
_ITERATIONS = 4096
# What its listeners are like: certificate (none: no TLS), whether clients need one, mechanisms of SASL.
_LISTENERS: dict[str, tuple[str, bool, tuple[str, ...]]] = {
    "PLAIN": ("", False, ()),
    "TLS": ("server", False, ()),
    "MUTUAL": ("server", True, ()),
    "OTHERHOST": ("otherhost", False, ()),
    "EXPIRED": ("expired", False, ()),
    "SASL": ("server", False, _MECHANISMS),
    "TOKEN": ("server", False, ("OAUTHBEARER",)),
}

_FETCH, _METADATA, _HEARTBEAT, _HANDSHAKE, _API_VERSIONS, _AUTHENTICATE = 1, 3, 12, 17, 18, 36
# The one version of each that it speaks; clients settle on these.
_VERSIONS = {_FETCH: 4, _METADATA: 1, _HEARTBEAT: 0, _HANDSHAKE: 1, _API_VERSIONS: 0, _AUTHENTICATE: 0}
_UNKNOWN_MEMBER, _UNSUPPORTED_MECHANISM, _ILLEGAL_STATE = 25, 33, 34
_UNSUPPORTED_VERSION, _AUTHENTICATION_FAILED = 35, 58
# A record of TLS: fatal, internal error. Java answers so to anything but TLS.
_NO_TLS = b"\x15\x03\x03\x00\x02\x02\x50"
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class StubBroker:
    """A running stub; `ports` by listener, files in `folder`, and its topics, of a partition each."""

    folder: Path
    ports: dict[str, int]
    topics: set[str] = field(default_factory=set)

    def address(self, listener: str) -> str:
        return f"localhost:{self.ports[listener]}"

    def file(self, name: str) -> str:
        return str(self.folder / f"{name}.pem")


@contextmanager
def stub_broker(folder: Path) -> Iterator[StubBroker]:
    """Listen on a port of the loopback for each kind of listener."""
    write_certificates(folder)
    with ExitStack() as stack:
        listening = {name: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for name in _LISTENERS}
        broker = StubBroker(folder, {name: one.getsockname()[1] for name, one in listening.items()})
        threads = [
            threading.Thread(target=_accept, args=(_Listener(broker, name), server), name=f"stub {name}")
            for name, server in listening.items()
        ]
        for thread in threads:
            thread.start()
        try:
            yield broker
        finally:
            for server in listening.values():
                server.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


class _Listener:
    """What all connections to a listener have in common."""

    def __init__(self, broker: StubBroker, name: str) -> None:
        self.broker = broker
        self.port = broker.ports[name]
        certificate, checks_clients, self.mechanisms = _LISTENERS[name]
        self.context: ssl.SSLContext | None = None
        if certificate:
            self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.context.load_cert_chain(broker.file(certificate))
        if self.context and checks_clients:
            self.context.load_verify_locations(broker.file("ca"))
            self.context.verify_mode = ssl.CERT_REQUIRED


def _accept(listener: _Listener, server: socket.socket) -> None:
    with ExitStack() as open_connections:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:  # shut down
                return
            thread = threading.Thread(target=_serve, args=(listener, connection), name="stub connection")
            thread.start()
            # In this order: the connection is ended, then its thread has.
            open_connections.callback(thread.join)
            open_connections.callback(_end, connection)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _serve(listener: _Listener, connection: socket.socket) -> None:
    with connection, suppress(OSError, EOFError):
        if listener.context is None:
            _answer(listener, connection)
            return
        if connection.recv(1, socket.MSG_PEEK) != b"\x16":
            connection.sendall(_NO_TLS)
            return
        # The caller ends the socket that it has accepted: it must stay whole.
        with listener.context.wrap_socket(connection.dup(), server_side=True) as secured:
            _answer(listener, secured)


def _answer(listener: _Listener, connection: socket.socket) -> None:
    session = _Session(listener)
    while not session.over:
        (size,) = struct.unpack(">i", _read(connection, 4))
        if not 0 < size <= _MOST_BYTES:  # it is no Kafka's request, but the beginning of TLS
            return
        request = _Bytes(_read(connection, size))
        key, version, correlation = request.take(">hhi")
        request.text()  # who asks
        answer = session.answer(key, version, request)
        if answer is None:
            return
        answer = struct.pack(">i", correlation) + answer
        connection.sendall(struct.pack(">i", len(answer)) + answer)


def _read(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = connection.recv(size - len(found))
        if not more:
            raise EOFError
        found += more
    return found


class _Session:
    """One connection's way through the protocol; `over` when the broker ends it."""

    def __init__(self, listener: _Listener) -> None:
        self.over = False
        self._listener = listener
        self._let_in = not listener.mechanisms
        self._mechanism = ""
        self._token_refused = False
        self._steps: Callable[[bytes], bytes] | None = None

    def answer(self, key: int, version: int, request: _Bytes) -> bytes | None:
        """The answer without its head; None to hang up."""
        if key == _API_VERSIONS:
            error = 0 if version == _VERSIONS[key] else _UNSUPPORTED_VERSION
            offered = [struct.pack(">hhh", one, most, most) for one, most in _VERSIONS.items()]
            return struct.pack(">h", error) + _array(offered)
        if version != _VERSIONS.get(key):
            raise AssertionError(f"a client asks for version {version} of request {key}")
        if key == _HANDSHAKE:
            return self._handshake(request.text())
        if key == _AUTHENTICATE and self._mechanism:
            return self._authenticate(request.bytes())
        if self._token_refused and key == _METADATA:
            # Its no to the token has been given, and waits to be taken note of.
            self.over = True
            return self._metadata(None, brokers=False)
        if not self._let_in:
            return None
        return self._serve(key, request)

    def _handshake(self, mechanism: str) -> bytes:
        offered = self._listener.mechanisms
        if not offered:
            error = _ILLEGAL_STATE
        elif mechanism not in offered:
            error, self.over = _UNSUPPORTED_MECHANISM, True
        else:
            error, self._mechanism = 0, mechanism
        return struct.pack(">h", error) + _array([_text(one) for one in offered])

    def _authenticate(self, said: bytes) -> bytes:
        if self._steps is None:
            self._steps = {"PLAIN": self._plain, "OAUTHBEARER": self._token}.get(self._mechanism, self._scram)
        try:
            back = self._steps(said)
        except PermissionError as refusal:
            self.over = True
            return struct.pack(">h", _AUTHENTICATION_FAILED) + _text(str(refusal)) + struct.pack(">i", 0)
        return struct.pack(">hh", 0, -1) + struct.pack(">i", len(back)) + back

    def _plain(self, said: bytes) -> bytes:
        if said.decode().split("\0")[1:] != [USER, PASSWORD]:
            raise PermissionError("Authentication failed: Invalid username or password")
        self._let_in = True
        return b""

    def _token(self, said: bytes) -> bytes:
        """No token is good."""
        if said == b"\x01":
            raise PermissionError('{"status":"invalid_token"}')
        self._token_refused = True
        return b'{"status":"invalid_token"}'

    def _scram(self, said: bytes) -> bytes:
        """The client's first message; its second goes to `check`."""
        bare = said.decode().removeprefix("n,,")
        asked = _attributes(bare)
        if asked["n"] != USER:
            raise self._invalid()
        salt, nonce = secrets.token_bytes(16), asked["r"] + secrets.token_hex(8)
        first = f"r={nonce},s={base64.b64encode(salt).decode()},i={_ITERATIONS}"
        digest = _HASHES[self._mechanism]
        salted = hashlib.pbkdf2_hmac(digest, PASSWORD.encode(), salt, _ITERATIONS)

        def check(said: bytes) -> bytes:
            final = said.decode()
            without_proof = final.rpartition(",p=")[0]
            signed = f"{bare},{first},{without_proof}".encode()
            key = hmac.digest(salted, b"Client Key", digest)
            mask = hmac.digest(hashlib.new(digest, key).digest(), signed, digest)
            proof = bytes(a ^ b for a, b in zip(key, mask, strict=True))
            if _attributes(final)["p"] != base64.b64encode(proof).decode():
                raise self._invalid()
            self._let_in = True
            signature = hmac.digest(hmac.digest(salted, b"Server Key", digest), signed, digest)
            return b"v=" + base64.b64encode(signature)

        self._steps = check
        return first.encode()

    def _invalid(self) -> PermissionError:
        return PermissionError(
            "Authentication failed during authentication due to invalid credentials with SASL mechanism "
            f"{self._mechanism}"
        )

    def _serve(self, key: int, request: _Bytes) -> bytes:
        match key:
            case _ if key == _METADATA:
                (count,) = request.take(">i")
                return self._metadata(None if count < 0 else [request.text() for _ in range(count)])
            case _ if key == _HEARTBEAT:
                return struct.pack(">h", _UNKNOWN_MEMBER)
            case _:  # Fetch: nothing
                return struct.pack(">i", 0) + _array([])

    def _metadata(self, wanted: list[str] | None, *, brokers: bool = True) -> bytes:
        known = self._listener.broker.topics
        topics = known if wanted is None else known.intersection(wanted)
        if not brokers:
            return _array([]) + struct.pack(">i", -1) + _array([])
        broker = struct.pack(">i", 1) + _text("localhost") + struct.pack(">ih", self._listener.port, -1)
        one = struct.pack(">hii", 0, 0, 1) + _array([struct.pack(">i", 1)]) * 2
        listed = [struct.pack(">h", 0) + _text(name) + b"\0" + _array([one]) for name in sorted(topics)]
        return _array([broker]) + struct.pack(">i", 1) + _array(listed)


class _Bytes:
    """A request, taken from its start."""

    def __init__(self, data: bytes) -> None:
        self._left = data

    def take(self, layout: str) -> tuple[Any, ...]:
        size = struct.calcsize(layout)
        found, self._left = struct.unpack(layout, self._left[:size]), self._left[size:]
        return found

    def text(self) -> str:
        (size,) = self.take(">h")
        return str(self.take(f"{max(0, size)}s")[0].decode())

    def bytes(self) -> bytes:
        (size,) = self.take(">i")
        return bytes(self.take(f"{size}s")[0])


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def _array(parts: list[bytes]) -> bytes:
    return struct.pack(">i", len(parts)) + b"".join(parts)


def _attributes(message: str) -> dict[str, str]:
    """Of a message of SCRAM: `n=user,r=nonce`."""
    return dict(part.split("=", 1) for part in message.split(","))
