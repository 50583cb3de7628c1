from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest

from monitoring.check_queries import empty, main, queries, substitute


class Prometheus(BaseHTTPRequestHandler):
    """Has data for everything but Athena's cost, and refuses what is about Glue's tables."""

    def do_GET(self) -> None:
        asked = parse_qs(urlparse(self.path).query)["query"][0]
        result = [] if "cost" in asked else [{"metric": {}, "value": [0, "NaN"]}]
        body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})
        self.send_response(400 if "lakefeed_analytics_tables" in asked else 200)
        self.end_headers()
        self.wfile.write(b"parse error" if "lakefeed_analytics_tables" in asked else body.encode())

    def log_message(self, *_: Any) -> None:
        """Be silent."""


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Prometheus) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_queries_without_data_are_named_with_the_reason(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert empty(url) == [
        ("lakefeed-pipeline.json: Tables", "max(lakefeed_analytics_tables)", "parse error"),
        ("lakefeed-pipeline.json: Cost", "sum(lakefeed_analytics_query_cost_usd_total)", "no data"),
    ]
    assert main([url]) == 1
    assert "no data" in capsys.readouterr().out
    assert main([]) == 2


def test_queries_are_those_of_panels_recording_rules_and_the_selectors_of_alerts() -> None:
    found = dict(queries())
    assert "$" not in "".join(found.values())
    assert found["lakefeed-pipeline.json: Rows read"] == "sum(lakefeed_producer_rows_read_total)"
    assert found["rule lakefeed:consumer_lag_events:sum"] == "sum(lakefeed_consumer_lag_events)"
    assert found["alert LakefeedDeadLetters"] == (
        'lakefeed_consumer_objects_total{outcome=~"dead_letter|conflict"}'
    )


def test_grafanas_variables_get_usual_values() -> None:
    assert substitute("rate(a[$__rate_interval])") == "rate(a[1m])"
    assert substitute('a{topic=~"$topic", b="${b:regex}"}') == 'a{topic=~".*", b=".*"}'
    assert substitute("increase(a[${__range}])") == "increase(a[1h])"
