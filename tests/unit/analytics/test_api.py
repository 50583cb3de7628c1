"""The HTTP API over fakes: shapes, statuses, problems, and nothing of the inside in any answer."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from lakefeed_analytics.statements import sample
from lakefeed_common.errors import LakefeedError, MissingError, RefusedError, UnavailableError
from tests.helpers.analytics.fakes import Answer
from tests.helpers.analytics.lake import NUMBERS, Lake, lake

__all__ = ["lake"]


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem detail that an answer is."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == status
    assert found["title"]
    assert "Traceback" not in answer.text
    return found


def test_a_crawl_is_started_then_joined_then_listed(lake: Lake) -> None:
    first = lake.http.post("/v1/crawls")
    assert (first.status_code, first.json()) == (202, {"started": True})
    assert lake.http.post("/v1/crawls").json() == {"started": False}
    assert lake.woken
    assert lake.http.get("/v1/crawls").json() == {"state": "RUNNING", "running_seconds": 1.5, "crawls": []}
    lake.crawler.end("FAILED", "no access")
    found = lake.http.get("/v1/crawls").json()
    assert found["state"] == "READY"
    assert found["crawls"][0]["outcome"] == "FAILED"
    assert found["crawls"][0]["error"] == "no access"


def test_tables(lake: Lake) -> None:
    assert lake.http.get("/v1/tables").json() == {"tables": []}
    lake.catalogue.add("prices", "2026-01-01", "2026-01-02", "2026-01-03")
    [table] = lake.http.get("/v1/tables").json()["tables"]
    assert table == lake.http.get("/v1/tables/prices").json()
    assert table["columns"][0] == {"name": "ticker", "type": "string", "partition": False}
    assert table["columns"][-1] == {"name": "dt", "type": "string", "partition": True}
    found = lake.http.get("/v1/tables/prices/partitions?limit=1&offset=1").json()
    assert found == {
        "total": 3,
        "partitions": [{"values": ["2026-01-02"], "location": "s3://lakefeed/events/prices/dt=2026-01-02/"}],
    }


def test_a_sample_of_rows(lake: Lake) -> None:
    lake.catalogue.add("prices", "2026-01-01")
    lake.engine.answers[sample("prices", 2)] = Answer([("ticker", "varchar")], [["A"], [None]])
    assert lake.http.get("/v1/tables/prices/sample?rows=2").json() == {
        "columns": [{"name": "ticker", "type": "varchar"}],
        "rows": [["A"], [None]],
        "next_page": None,
    }


def test_a_query_from_start_to_the_last_page(lake: Lake) -> None:
    started = lake.http.post("/v1/queries", json={"sql": f"-- all\n{NUMBERS};"})
    assert started.status_code == 202
    query = started.json()["id"]
    assert started.json()["sql"] == NUMBERS
    assert started.headers["location"] == f"/v1/queries/{query}"
    status = lake.http.get(started.headers["location"]).json()
    assert status["state"] == "SUCCEEDED"
    assert status["scanned_bytes"] == 10**9
    assert status["estimated_cost_usd"] == pytest.approx(0.005)
    rows: list[Any] = []
    parameters: dict[str, Any] = {"limit": 10}
    for _ in range(3):
        page = lake.http.get(f"/v1/queries/{query}/rows", params=parameters).json()
        rows += page["rows"]
        parameters["page"] = page["next_page"]
    assert rows == [[n] for n in range(25)]
    assert page["next_page"] is None
    assert lake.http.get("/v1/queries").json()["queries"][0]["id"] == query


def test_a_running_query_is_cancelled(lake: Lake) -> None:
    lake.engine.answers["SELECT 1"] = Answer(hold=True)
    query = lake.start("SELECT 1")
    problem(lake.http.get(f"/v1/queries/{query}/rows"), 409)
    cancelled = lake.http.delete(f"/v1/queries/{query}")
    assert cancelled.status_code == 202
    assert cancelled.json()["state"] == "CANCELLED"
    problem(lake.http.get(f"/v1/queries/{query}/rows"), 409)


def test_a_failed_query_is_a_good_answer_without_rows(lake: Lake) -> None:
    query = lake.start("SELECT * FROM nope")
    status = lake.http.get(f"/v1/queries/{query}")
    assert status.status_code == 200
    assert status.json()["state"] == "FAILED"
    assert status.json()["reason"] == "TABLE_NOT_FOUND"
    assert "TABLE_NOT_FOUND" in problem(lake.http.get(f"/v1/queries/{query}/rows"), 409)["detail"]


@pytest.mark.parametrize("sql", ["DROP TABLE prices", "SELECT 1; SELECT 2", "SELEC", " ", "-- x", "'"])
def test_only_reading_statements(lake: Lake, sql: str) -> None:
    found = problem(lake.http.post("/v1/queries", json={"sql": sql}), 422)
    assert found["type"] == "urn:lakefeed:problem:input"
    assert lake.engine.queries == {}


def test_named_queries(lake: Lake) -> None:
    lake.catalogue.add("prices")
    lake.catalogue.add("other")
    named = {query["name"]: query for query in lake.http.get("/v1/named-queries").json()["queries"]}
    assert "volatility" in named
    assert lake.http.get("/v1/named-queries/volatility").json() == named["volatility"]
    run = lake.http.post("/v1/named-queries/volatility/run")
    assert run.status_code == 202
    assert 'from "prices"' in run.json()["sql"]
    # Where there is an Iceberg table, it is faster and cheaper.
    lake.catalogue.add("prices_iceberg")
    run = lake.http.post("/v1/named-queries/volatility/run")
    assert 'from "prices_iceberg"' in run.json()["sql"]
    run = lake.http.post("/v1/named-queries/volatility/run", json={"table": "other"})
    assert 'from "other"' in run.json()["sql"]
    problem(lake.http.post("/v1/named-queries/volatility/run", json={"table": 'x" --'}), 404)
    problem(lake.http.post("/v1/named-queries/volatility/run", json={"tabel": "other"}), 422)
    problem(lake.http.post("/v1/named-queries/nope/run"), 404)


def test_named_queries_run_on_the_iceberg_table_where_it_exists(lake: Lake) -> None:
    lake.catalogue.add("prices")
    lake.catalogue.add("prices_iceberg")
    run = lake.http.post("/v1/named-queries/volatility/run")
    assert 'from "prices_iceberg"' in run.json()["sql"]
    run = lake.http.post("/v1/named-queries/volatility/run", json={"table": "prices"})
    assert 'from "prices"' in run.json()["sql"]


def test_what_is_not_there_is_404(lake: Lake) -> None:
    for path in (
        "/v1/tables/nope",
        "/v1/tables/nope/partitions",
        "/v1/tables/nope/sample",
        "/v1/queries/nope",
        "/v1/queries/nope/rows",
        "/v1/named-queries/nope",
        "/v1/nope",
        "/nope",
    ):
        problem(lake.http.get(path), 404)


def test_an_unknown_method_is_405_and_tells_the_known(lake: Lake) -> None:
    answer = lake.http.put("/v1/tables")
    problem(answer, 405)
    assert answer.headers["allow"] == "GET"


WORDS = ["\x00", "💾", "../../etc/passwd", "%", "'; --", "a" * 250, " ", "\\", "null", "-1", "{id}"]
PATHS = ["tables/{}", "tables/{}/sample", "queries/{}", "queries/{}/rows", "named-queries/{}"]


@pytest.mark.parametrize("path", PATHS)
def test_nonsense_in_a_path_is_the_callers_error(lake: Lake, path: str) -> None:
    for word in (*(word.encode() for word in WORDS), b"\xff\xfe"):
        answer = lake.http.get("/v1/" + path.format("".join(f"%{byte:02X}" for byte in word)))
        problem(answer, answer.status_code)
        assert 400 <= answer.status_code < 500, word


def test_nonsense_in_a_query_string_is_the_callers_error(lake: Lake) -> None:
    started = lake.start(NUMBERS)
    for word in (
        "limit=0",
        "limit=x",
        "limit=1e9",
        "limit=" + "9" * 30,
        "page=",
        "page=x",
        "page=%00",
        "page=%F0",
    ):
        problem(lake.http.get(f"/v1/queries/{started}/rows?{word}"), 422)


def test_nonsense_in_a_body_is_the_callers_error(lake: Lake) -> None:
    for body in (
        b"",
        b"{",
        b"null",
        b"[]",
        b'"SELECT 1"',
        b'{"sql": null}',
        b'{"sql": 1}',
        b'{"sql": "SELECT 1", "x": 1}',
        b'{"sql": "\\ud800"}',
        b'{"sql": "\xff"}',
        b'{"sql": NaN}',
        b'{"sql": "' + b"x" * 300_000 + b'"}',
        b"[" * 100_000,
    ):
        answer = lake.http.post("/v1/queries", content=body, headers={"content-type": "application/json"})
        problem(answer, answer.status_code)
        assert answer.status_code in (400, 422), body[:30]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnavailableError("glue does not answer"), 503),
        (RefusedError("AccessDenied"), 502),
        (MissingError("no crawler"), 404),
        (LakefeedError("odd"), 502),
    ],
)
def test_errors_of_aws_are_problems(lake: Lake, error: LakefeedError, status: int) -> None:
    lake.crawler.error = lake.engine.error = lake.catalogue.error = error
    for answer in (
        lake.http.get("/v1/crawls"),
        lake.http.post("/v1/crawls"),
        lake.http.get("/v1/tables"),
        lake.http.get("/v1/queries"),
        lake.http.post("/v1/queries", json={"sql": "SELECT 1"}),
        lake.http.get("/v1/queries/x/rows"),
        lake.http.delete("/v1/queries/x"),
        lake.http.post("/v1/named-queries/volatility/run"),
    ):
        assert problem(answer, status)["detail"] == str(error)
    assert lake.metrics.registry.get_sample_value("lakefeed_errors_total", {"kind": error.kind}) == 8
    if status == 503:
        assert answer.headers["retry-after"]


def test_an_unforeseen_error_shows_nothing_of_the_inside(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("the secret inside")

    monkeypatch.setattr(lake.catalogue, "tables", broken)
    answer = lake.http.get("/v1/tables")
    problem(answer, 500)
    assert "secret" not in answer.text
    assert "ZeroDivision" not in answer.text
    assert lake.metrics.registry.get_sample_value("lakefeed_errors_total", {"kind": "internal"}) == 1


@pytest.mark.parametrize("query", ["latest_price", "volatility", "sample", "free"])
def test_every_kind_of_query_is_counted_from_0(lake: Lake, query: str) -> None:
    for state in ("SUCCEEDED", "FAILED", "CANCELLED"):
        labels = {"query": query, "state": state}
        assert lake.metrics.registry.get_sample_value("lakefeed_analytics_queries_total", labels) == 0


def test_health_and_metrics(lake: Lake) -> None:
    assert lake.http.get("/healthz").json() == {"ok": True, "reasons": {}}
    unready = lake.http.get("/readyz")
    assert (unready.status_code, unready.json()["reasons"]) == (503, {"glue": "not reached yet"})
    lake.health.ready("glue")
    assert lake.http.get("/readyz").status_code == 200
    lake.http.get("/v1/tables/nope")
    text = lake.http.get("/metrics").text
    assert (
        'lakefeed_analytics_http_requests_total{method="GET",route="/v1/tables/{name}",status="404"} 1.0'
        in text
    )
    assert "nope" not in text


def test_the_openapi_page_is_complete(lake: Lake) -> None:
    assert lake.http.get("/docs").status_code == 200
    schema = lake.http.get("/openapi.json").json()
    assert "Problem" in schema["components"]["schemas"]
    assert "HTTPValidationError" not in schema["components"]["schemas"]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
            if not path.startswith("/v1"):
                continue
            assert {"422", "500", "502", "503"} <= set(operation["responses"]), (method, path)
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    [(media_type, content)] = response["content"].items()
                    assert media_type == "application/problem+json"
                    assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                else:
                    assert "$ref" in response["content"]["application/json"]["schema"]
