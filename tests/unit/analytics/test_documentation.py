"""The page of the API's documentation works where there is no internet."""

from __future__ import annotations

import re

import pytest

from tests.helpers.analytics.lake import Lake, lake

__all__ = ["lake"]


def test_the_page_and_all_that_it_loads_come_from_the_service(lake: Lake) -> None:
    page = lake.http.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {"docs/swagger-ui-bundle.js", "docs/swagger-ui.css", "docs/start.js"} <= set(loaded)
    assert "//" not in page.text
    for each in loaded:
        if not each.startswith("data:"):
            part = lake.http.get(f"/{each}")
            assert part.status_code == 200, each
            assert part.content
    start = lake.http.get("/docs/start.js").text
    assert 'url: "openapi.json"' in start
    assert "validatorUrl: null" in start
    assert "//" not in start


def test_the_headers_forbid_external_resources(lake: Lake) -> None:
    policy = lake.http.get("/docs").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    # No host stands in it, so that a script of Swagger UI cannot reach any.
    assert not re.search(r"https?:|\*", policy)


@pytest.mark.parametrize("path", ["/docs/redoc.standalone.js", "/docs/..%2Fcore.py", "/docs/nope", "/redoc"])
def test_nothing_else_is_served(lake: Lake, path: str) -> None:
    assert lake.http.get(path).status_code == 404
