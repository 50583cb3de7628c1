"""Addresses of hosts and ports, of IPv4 and IPv6: as text, and to listen on."""

from __future__ import annotations

import errno
import socket

from lakefeed_common.errors import SettingsError

EVERY_ADDRESS = "::"
_EVERY_IPV4_ADDRESS = "0.0.0.0"  # noqa: S104
# What a kernel without IPv6 answers, or one whose interfaces have it switched off.
_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


def join(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split(address: str) -> tuple[str, int]:
    """Host, without brackets, and port of `host:port` or `[::1]:port`."""
    host, _, port = address.strip().rpartition(":")
    return host.strip("[]"), int(port)


def listen(host: str, port: int, variable: str) -> socket.socket:
    """A socket that listens; on `::` for IPv4, too, and for IPv4 alone where the machine has no IPv6.

    Args:
        host: address of an interface, or `::`, or `0.0.0.0`.
        port: 0 takes a free one.
        variable: what sets the port, for the message.

    Raises:
        SettingsError: it cannot be had.
    """
    try:
        return _listen(host, port)
    except OSError as error:
        if host == EVERY_ADDRESS and error.errno in _NO_IPV6:
            return listen(_EVERY_IPV4_ADDRESS, port, variable)
        raise SettingsError(
            f"{variable}={port}: cannot listen on {join(host, port)} ({error.strerror or error}). "
            "Stop what uses the port, or set another one (0 takes a free one)."
        ) from error


def _listen(host: str, port: int) -> socket.socket:
    ipv6 = ":" in host
    return socket.create_server(
        (host, port),
        family=socket.AF_INET6 if ipv6 else socket.AF_INET,
        dualstack_ipv6=ipv6,
        backlog=128,
    )
