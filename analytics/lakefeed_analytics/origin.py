"""Who may ask the API: only requests to a host that is ours, and none that another web page makes.

A browser sends what any page tells it to, to the loopback, too. Such a request carries a foreign
`Origin`, or `Sec-Fetch-Site`; where a name of the page's owner points to our address (DNS rebinding),
it carries a foreign `Host`. Health and metrics are read by probes and scrapes at the pod's address, start
nothing and cost nothing, so they are answered under any name.
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
        """Answer with 403, or let the app answer."""
        reason = self._refusal(scope) if scope["type"] == "http" else None
        if reason is None:
            await self._app(scope, receive, send)
        else:
            await problems.respond(problems.foreign(reason))(scope, receive, send)

    def _refusal(self, scope: Scope) -> str | None:
        """Why a request is not answered; None for one that is."""
        path, safe = scope["path"], scope["method"] in _SAFE
        if safe and path in _FOR_ANY_HOST:
            return None
        host = _only(scope, b"host")
        address = scope["server"][0] if scope.get("server") else None
        if host is None or not self._hosts.ours(host, address):
            return (
                f"this service is not {(host or '')[:_LONGEST]!r}: it answers to the hosts of "
                "LAKEFEED_HTTP_ALLOWED_HOSTS. Add that name there if it is meant for this service"
            )
        if _has(scope, b"origin") and not same(_only(scope, b"origin") or "", host):
            return "the request was made by a page of another origin; only pages of this service may make any"
        # An image or a script of a page has no Origin, and a sample of rows is billed. A link to the
        # documentation is welcome.
        site = _only(scope, b"sec-fetch-site")
        if site not in (None, "same-origin", "none") and not (safe and not _is_api(path)):
            return "the request was made by a page of another site; only pages of this service may make any"
        return None


class Hosts:
    """The names and addresses that are this service's.

    Args:
        allowed: names and addresses; `.example.com` is all below that name, `*` is any.
        bound: the address that the service listens on, its own unless it is any address.
    """

    def __init__(self, allowed: Iterable[str], bound: str) -> None:
        names = [_plain(name) for name in allowed]
        self._any = "*" in names
        self._names = {name for name in names if not name.startswith(".")}
        self._suffixes = tuple(name for name in names if name.startswith("."))
        if not _unspecified(bound):
            self._names.add(_plain(bound))

    def ours(self, host: str, address: str | None) -> bool:
        """Whether a `Host` header is ours; `address` is the one that the connection came to.

        That address written as numbers is ours: no other name can resolve to it.
        """
        found = _NETLOC.fullmatch(host)
        if found is None:
            return False
        name = _plain(found[1])
        if self._any or name in self._names or (self._suffixes and name.endswith(self._suffixes)):
            return True
        return address is not None and name == _plain(address)


def same(origin: str, host: str) -> bool:
    """Whether an `Origin` is the one of a request to this `Host`. A proxy may speak TLS for us."""
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        return False
    default = _PORTS[found[1].lower()]
    ours, theirs = _NETLOC.fullmatch(host), _NETLOC.fullmatch(found[2])
    if ours is None or theirs is None:
        return False
    return (_plain(ours[1]), ours[2] or default) == (_plain(theirs[1]), theirs[2] or default)


def _plain(name: str) -> str:
    """A name or address in one spelling."""
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
    """The value of a header that stands once."""
    found = [value for key, value in scope["headers"] if key == name]
    return found[0].decode("latin-1") if len(found) == 1 else None
