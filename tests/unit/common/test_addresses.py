"""Addresses as text, and sockets that listen: IPv6 as well as IPv4."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from lakefeed_common.addresses import join, listen, split
from lakefeed_common.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("broker:9092", "broker", 9092),
        ("10.0.0.7:1", "10.0.0.7", 1),
        ("[::1]:9092", "::1", 9092),
        ("[fd00::7]:65535", "fd00::7", 65535),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert split(text) == (host, port)
    assert join(host, port) == text


@pytest.mark.parametrize(
    ("host", "clients"),
    [
        ("::", ["::1", "127.0.0.1"]),
        ("::1", ["::1"]),
        ("localhost", ["127.0.0.1"]),
        ("127.0.0.1", ["127.0.0.1"]),
        ("0.0.0.0", ["127.0.0.1"]),  # noqa: S104
    ],
)
def test_it_listens_on_the_addresses_that_the_host_means(host: str, clients: list[str]) -> None:
    with listen(host, 0, "LAKEFEED_HTTP_PORT") as listener:
        for client in clients:
            socket.create_connection((client, listener.getsockname()[1]), timeout=10).close()


def test_every_address_is_those_of_ipv4_where_there_is_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.create_server

    def without_ipv6(address: tuple[str, int], **options: Any) -> socket.socket:
        if options["family"] == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(address, **options)

    monkeypatch.setattr(socket, "create_server", without_ipv6)
    with listen("::", 0, "LAKEFEED_HTTP_PORT") as listener:
        socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=10).close()
    with pytest.raises(SettingsError, match=r"LAKEFEED_HTTP_HOST=::1: cannot listen on it"):
        listen("::1", 0, "LAKEFEED_HTTP_PORT")


def test_a_name_with_only_an_ipv6_address_is_one_to_listen_on(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def resolve(host: str, *given: Any, **options: Any) -> Any:
        return real("::1" if host == "six.test" else host, *given, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_server", lambda address, **options: (address, options["family"]))
    assert listen("six.test", 0, "LAKEFEED_HTTP_PORT") == (("six.test", 0), socket.AF_INET6)  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("host", ["no-such-name.invalid", "192.0.2.1", "2001:db8::1", "fe80::1::"])
def test_a_host_that_is_not_this_machine_names_its_variable(host: str) -> None:
    with pytest.raises(SettingsError, match=r"^LAKEFEED_HTTP_HOST=.*: cannot listen on it"):
        listen(host, 0, "LAKEFEED_HTTP_PORT")


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
def test_a_port_that_is_taken_names_its_variable(host: str) -> None:
    with listen(host, 0, "LAKEFEED_HTTP_PORT") as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SettingsError) as error:
            listen(host, port, "LAKEFEED_HTTP_PORT")
    assert f"LAKEFEED_HTTP_PORT={port}: cannot listen on {join(host, port)}" in str(error.value)
