"""Restricts the API to requests for this host that do not come from other web pages.

A browser sends requests of any page, also to the loopback interface. Such a request has a foreign `Origin` or
`Sec-Fetch-Site`; if a name of the page's owner points to our address (DNS rebinding), it has a foreign
`Host`. Health and metrics are read by probes and scrapes at the pod's address, and have no side effects or
cost, so they are served under any name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from lakefeed_analytics import problems
from lakefeed_analytics.settings import AnalyticsSettings

_FOR_ANY_HOST = {"/healthz", "/readyz", "/metrics"}
_SAFE = {"GET", "HEAD"}
_OWN_SITES = {b"same-origin", b"none"}
_API = "/v1"
_NETLOC = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/@\[\]]+)(?::(\d{1,5}))?", re.IGNORECASE)
_ORIGIN = re.compile(r"(https?)://([^/]+)", re.IGNORECASE)
_PORTS = {"http": "80", "https": "443"}
_LONGEST = 100  # of a header, in an answer


class OwnOrigin:
    """Refuses requests to foreign hosts and from foreign origins: an ASGI middleware."""

    def __init__(self, app: ASGIApp, settings: AnalyticsSettings) -> None:
        self._app = app
        self._hosts = Hosts(settings.http_allowed_hosts.split(","), settings.http_host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond with 403, or pass the request to the app."""
        reason = self._refusal(scope) if scope["type"] == "http" else None
        if reason is None:
            await self._app(scope, receive, send)
        else:
            await problems.respond(problems.foreign(reason))(scope, receive, send)

    def _refusal(self, scope: Scope) -> str | None:
        """The reason for refusing a request; None if it is allowed."""
        path, safe = scope["path"], scope["method"] in _SAFE
        if safe and path in _FOR_ANY_HOST:
            return None
        host = _only(scope, b"host")
        address = scope["server"][0] if scope.get("server") else None
        if host is None or not self._hosts.ours(host, address):
            return (
                f"the host {(host or '')[:_LONGEST]!r} is not one of LAKEFEED_HTTP_ALLOWED_HOSTS. "
                "Add it there if it is a name of this service"
            )
        if _has(scope, b"origin") and not same(_only(scope, b"origin") or "", host):
            return "the request comes from a page of another origin; only pages of this service are allowed"
        # Requests for images and scripts have no Origin, and a sample of rows is billed. Links to the
        # documentation are allowed.
        sites = {value for name, value in scope["headers"] if name == b"sec-fetch-site"}
        if not sites <= _OWN_SITES and not (safe and not _is_api(path)):
            return "the request comes from a page of another site; only pages of this service are allowed"
        return None


class Hosts:
    """The names and addresses of this service.

    Args:
        allowed: names and addresses; `.example.com` matches all its subdomains, `*` matches any name.
        bound: the address that the service listens on; allowed unless it is a wildcard address.
    """

    def __init__(self, allowed: Iterable[str], bound: str) -> None:
        names = [_plain(name) for name in allowed]
        self._any = "*" in names
        self._names = {name for name in names if not name.startswith(".")}
        self._suffixes = tuple(name for name in names if name.startswith("."))
        if not _unspecified(bound):
            self._names.add(_plain(bound))

    def ours(self, host: str, address: str | None) -> bool:
        """Whether a `Host` header is allowed; `address` is the local address of the connection.

        That address in numeric form is allowed, because it cannot be the name of another page.
        """
        found = _NETLOC.fullmatch(host)
        if found is None:
            return False
        name = _plain(found[1])
        if self._any or name in self._names or (self._suffixes and name.endswith(self._suffixes)):
            return True
        return address is not None and name == _plain(address)


def same(origin: str, host: str) -> bool:
    """Whether an `Origin` matches this `Host`. A proxy may terminate TLS."""
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        return False
    default = _PORTS[found[1].lower()]
    ours, theirs = _NETLOC.fullmatch(host), _NETLOC.fullmatch(found[2])
    if ours is None or theirs is None:
        return False
    return (_plain(ours[1]), ours[2] or default) == (_plain(theirs[1]), theirs[2] or default)


def _plain(name: str) -> str:
    """A name or address in normalized form."""
    name = name.strip().lower().removesuffix(".")
    try:
        address = ipaddress.ip_address(name.removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        return name
    return str(getattr(address, "ipv4_mapped", None) or address)


def _unspecified(bound: str) -> bool:
    try:
        return ipaddress.ip_address(bound.strip("[]")).is_unspecified
    except ValueError:
        return not bound


def _is_api(path: str) -> bool:
    return path == _API or path.startswith(f"{_API}/")


def _has(scope: Scope, name: bytes) -> bool:
    return any(key == name for key, _ in scope["headers"])


def _only(scope: Scope, name: bytes) -> str | None:
    """The value of a header that occurs exactly once."""
    found = [value for key, value in scope["headers"] if key == name]
    return found[0].decode("latin-1") if len(found) == 1 else None
