"""The status server on addresses of IPv6 and IPv4."""

from __future__ import annotations

import http.client

import pytest

from lakefeed_common.health import Health
from lakefeed_common.metrics import ServiceMetrics
from lakefeed_common.settings import ServiceSettings
from lakefeed_common.web import StatusServer


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("::", ["::1", "127.0.0.1"]),
        ("::1", ["::1"]),
        ("127.0.0.1", ["127.0.0.1"]),
        ("0.0.0.0", ["127.0.0.1"]),  # noqa: S104
    ],
)
def test_it_answers_on_the_addresses_that_its_host_means(host: str, addresses: list[str]) -> None:
    metrics = ServiceMetrics("common")
    health = Health(metrics, [], stall_seconds=5)
    with StatusServer(ServiceSettings(http_host=host, http_port=0), metrics, health) as server:
        for address in addresses:
            asked = http.client.HTTPConnection(address, server.port, timeout=10)
            asked.request("GET", "/healthz")
            assert asked.getresponse().status == 200
            asked.close()
