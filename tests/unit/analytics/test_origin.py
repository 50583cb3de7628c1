"""Only requests to this service's own hosts and from its own pages are answered."""

from __future__ import annotations

import http.client
import socket

import pytest
from pydantic import ValidationError

from lakefeed_analytics.origin import Hosts, same
from lakefeed_analytics.settings import AnalyticsSettings
from tests.helpers.analytics.lake import Lake, lake

__all__ = ["lake"]

BILLED = [
    ("POST", "/v1/crawls"),
    ("DELETE", "/v1/crawls"),
    ("POST", "/v1/queries"),
    ("POST", "/v1/named-queries/volatility/run"),
    ("GET", "/v1/tables/prices/sample"),
]
READ = [
    ("GET", "/v1/tables"),
    ("GET", "/v1/queries"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/"),
]


def address(lake: Lake) -> str:
    return f"{lake.http.base_url.host}:{lake.http.base_url.port}"


def status(lake: Lake, method: str, path: str, **headers: str) -> int:
    answer = lake.http.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    if answer.status_code == 403:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:lakefeed:problem:foreign"
        assert "access-control-allow-origin" not in answer.headers
    return answer.status_code


def untouched(lake: Lake) -> bool:
    return not lake.crawler.status().running and not lake.engine.queries and not lake.woken


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8003", "localhost.evil.example", "10.1.2.3", "@"]
)
def test_a_foreign_host_gets_nothing(lake: Lake, host: str) -> None:
    lake.catalogue.add("prices")
    for method, path in [*BILLED, *READ, ("OPTIONS", "/v1/queries")]:
        assert status(lake, method, path, host=host) == 403, (method, path)
    assert untouched(lake)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://localhost:9"},
        {"origin": "http://127.0.0.1"},
        {"sec_fetch_site": "cross-site"},  # an image, a script, a form: GET has no Origin
        {"sec_fetch_site": "same-site"},
    ],
    ids=str,
)
def test_another_pages_request_starts_nothing(lake: Lake, headers: dict[str, str]) -> None:
    lake.catalogue.add("prices")
    for method, path in BILLED:
        assert status(lake, method, path, **headers) == 403, (method, path)
    assert untouched(lake)


@pytest.mark.parametrize("sites", [["cross-site", "same-origin"], ["none", ""], ["cross-site", "cross-site"]])
def test_one_of_several_foreign_sites_is_enough(lake: Lake, sites: list[str]) -> None:
    headers = [("sec-fetch-site", site) for site in sites]
    assert lake.http.request("POST", "/v1/crawls", headers=headers).status_code == 403
    assert untouched(lake)


def test_a_link_to_the_documentation_is_followed(lake: Lake) -> None:
    assert status(lake, "GET", "/docs", sec_fetch_site="cross-site") == 200


def test_the_services_own_pages_and_programs_are_answered(lake: Lake) -> None:
    port = address(lake).rpartition(":")[2]
    for host in (address(lake), f"localhost:{port}", f"LOCALHOST.:{port}", "[::1]:8003", "127.0.0.1"):
        assert status(lake, "POST", "/v1/crawls", host=host) == 202
        assert status(lake, "POST", "/v1/crawls", host=host, origin=f"http://{host}") == 202
        assert status(lake, "GET", "/v1/tables", host=host, sec_fetch_site="same-origin") == 200


def test_probes_and_scrapes_ask_by_any_name(lake: Lake) -> None:
    lake.health.ready("glue")
    for path in ("/healthz", "/readyz", "/metrics"):
        for host in ("10.244.0.7:8003", "analytics:8003", "[fd00::7]:8003"):
            assert status(lake, "GET", path, host=host) == 200
        assert status(lake, "POST", path, host="analytics:8003") == 403


def test_a_request_without_a_host(lake: Lake) -> None:
    base = lake.http.base_url
    with socket.create_connection((base.host, base.port or 80), timeout=30) as connection:
        connection.sendall(b"GET /v1/tables HTTP/1.0\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 403


def test_refusals_are_counted(lake: Lake) -> None:
    status(lake, "POST", "/v1/crawls", host="evil.example")
    assert (
        'http_requests_total{method="POST",route="other",status="403"} 1.0' in lake.http.get("/metrics").text
    )


def test_hosts_of_the_setting() -> None:
    hosts = Hosts(["analytics", ".svc.cluster.local", "[fd00::1]"], "0.0.0.0")  # noqa: S104
    for host in (
        "analytics:8003",
        "Analytics.",
        "a.lakefeed.svc.cluster.local:80",
        "[FD00:0::1]:8003",
        "10.0.0.7:8003",
    ):
        assert hosts.ours(host, "10.0.0.7"), host
    for host in ("0.0.0.0", "svc.cluster.local", "xanalytics", "10.0.0.8", "analytics:x", "a@analytics", ""):  # noqa: S104
        assert not hosts.ours(host, "10.0.0.7"), host
    assert Hosts(["*"], "::").ours("any.example", None)
    assert Hosts(["localhost"], "lake.example").ours("lake.example:8003", None)
    assert Hosts(["localhost"], "::").ours("10.0.0.7:8003", "::ffff:10.0.0.7")


def test_an_origin_is_scheme_name_and_port() -> None:
    assert same("https://lake.example", "lake.example")  # a proxy speaks TLS for the service
    assert same("http://lake.example", "lake.example:80")
    assert same("http://[::1]:8003", "[::1]:8003")
    for origin in (
        "http://lake.example:8003",
        "https://lake.example:80",
        "http://lake.example.evil",
        "lake.example",
    ):
        assert not same(origin, "lake.example:443")


@pytest.mark.parametrize("hosts", ["", "a b", "http://x", "x:80", "a,,b", "a/b"])
def test_a_setting_that_is_not_a_list_of_hosts(hosts: str) -> None:
    with pytest.raises(ValidationError):
        AnalyticsSettings(http_allowed_hosts=hosts)
