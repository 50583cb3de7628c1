"""IPv4 and IPv6 addresses with ports: parsing, formatting and listening."""

from __future__ import annotations

import errno
import socket

from lakefeed_common.errors import SettingsError

EVERY_ADDRESS = "::"
_EVERY_IPV4_ADDRESS = "0.0.0.0"  # noqa: S104
# Errors of a kernel without IPv6, or with IPv6 disabled on its interfaces.
_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


def join(host: str, port: int) -> str:
    """`host:port`, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split(address: str) -> tuple[str, int]:
    """Host, without brackets, and port of `host:port` or `[::1]:port`."""
    host, _, port = address.strip().rpartition(":")
    return host.strip("[]"), int(port)


def listen(host: str, port: int, variable: str, host_variable: str = "LAKEFEED_HTTP_HOST") -> socket.socket:
    """A listening socket; `::` includes IPv4, or is only IPv4 if the machine has no IPv6.

    Args:
        host: address of an interface or its name, or `::`, or `0.0.0.0`.
        port: 0 selects a free one.
        variable: the variable that sets the port, for the message.
        host_variable: the variable that sets the host.

    Raises:
        SettingsError: it cannot listen there.
    """
    try:
        return _listen(host, port)
    except OSError as error:
        if host == EVERY_ADDRESS and error.errno in _NO_IPV6:
            return listen(_EVERY_IPV4_ADDRESS, port, variable, host_variable)
        if isinstance(error, socket.gaierror) or error.errno in _NO_IPV6:
            raise SettingsError(
                f"{host_variable}={host}: cannot listen on it ({error.strerror or error}). Set an address of "
                "this machine, `::` for all of them, or a name of one."
            ) from error
        raise SettingsError(
            f"{variable}={port}: cannot listen on {join(host, port)} ({error.strerror or error}). "
            "Stop the program that uses the port, or set another one (0 selects a free one)."
        ) from error


def _listen(host: str, port: int) -> socket.socket:
    # A name may have addresses of both families; then IPv4, as most clients find it by both.
    families = {found[0] for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    ipv6 = socket.AF_INET not in families
    return socket.create_server(
        (host, port),
        family=socket.AF_INET6 if ipv6 else socket.AF_INET,
        dualstack_ipv6=ipv6,
        backlog=128,
    )
