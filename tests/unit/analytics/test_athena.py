"""What Athena answers and MiniStack does not: its counts, its codes, its odd values."""

from __future__ import annotations

import math
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from lakefeed_analytics.athena import AthenaQueries, QueryStatus, ResultColumn, overdue, typed, wait_for_query
from lakefeed_analytics.errors import QueryFailedError, StatementError
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common.errors import MissingError, RefusedError, UnavailableError
from tests.helpers.analytics.fakes import Answer, Clock, MemoryEngine
from tests.helpers.analytics.scripted_client import ScriptedClient, error

ID = "00000000-0000-0000-0000-000000000001"


def execution(**changes: Any) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "QueryExecutionId": ID,
        "Query": "SELECT 1",
        "StatementType": "DML",
        "WorkGroup": "lakefeed",
        "Status": {"State": "SUCCEEDED"},
        "Statistics": {"DataScannedInBytes": 5, "TotalExecutionTimeInMillis": 1500},
    }
    return {"QueryExecution": {**raw, **changes}}


def results(names: list[str], *rows: list[str | None], token: str | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "ResultSet": {
            "ResultSetMetadata": {"ColumnInfo": [{"Name": name, "Type": "varchar"} for name in names]},
            "Rows": [
                {"Data": [{} if text is None else {"VarCharValue": text} for text in row]} for row in rows
            ],
        }
    }
    return {**answer, "NextToken": token} if token else answer


def queries(**answers: Any) -> tuple[AthenaQueries, ScriptedClient]:
    athena = ScriptedClient(**answers)
    return AthenaQueries(athena, AnalyticsSettings()), athena  # type: ignore[arg-type]


def test_a_query_runs_in_the_workgroup_and_database() -> None:
    engine, athena = queries(start_query_execution={"QueryExecutionId": ID})
    assert engine.start("SELECT 1") == ID
    assert athena.asked == [
        (
            "start_query_execution",
            {
                "QueryString": "SELECT 1",
                "QueryExecutionContext": {"Database": "lakefeed"},
                "WorkGroup": "lakefeed",
            },
        )
    ]


def test_a_malformed_statement_is_the_users_error() -> None:
    said = error("InvalidRequestException", "line 1:8: mismatched input", AthenaErrorCode="MALFORMED_QUERY")
    with pytest.raises(StatementError, match="line 1:8"):
        queries(start_query_execution=said)[0].start("SELECT FROM")


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (error("InvalidRequestException", "WorkGroup is not found."), MissingError),
        (error("AccessDeniedException", "no"), RefusedError),
        (error("TooManyRequestsException", "slow down"), UnavailableError),
        (EndpointConnectionError(endpoint_url="http://x"), UnavailableError),
    ],
)
def test_errors_are_translated(raised: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="starting a query"):
        queries(start_query_execution=raised)[0].start("SELECT 1")


def test_an_unknown_query_by_athenas_words() -> None:
    said = error("InvalidRequestException", f"QueryExecution {ID} was not found")
    with pytest.raises(MissingError, match="there is no query"):
        queries(get_query_execution=said)[0].status(ID)


def test_a_query_of_another_workgroup_is_none_of_ours() -> None:
    with pytest.raises(MissingError):
        queries(get_query_execution=execution(WorkGroup="payroll"))[0].status(ID)


def test_the_line_of_names_is_no_row() -> None:
    engine, _ = queries(
        get_query_execution=execution(), get_query_results=results(["a", "b"], ["a", "b"], ["1", None])
    )
    assert engine.page(ID, None, 10).rows == [["1", None]]


def test_a_later_page_may_begin_with_a_row_like_the_names() -> None:
    engine, athena = queries(
        get_query_execution=execution(), get_query_results=results(["a"], ["a"], ["x"], token="more")
    )
    token = engine.page(ID, None, 2).next
    assert engine.page(ID, token, 2).rows == [["a"], ["x"]]
    assert athena.asked[-1] == (
        "get_query_results",
        {"QueryExecutionId": ID, "MaxResults": 2, "NextToken": "more"},
    )


def test_utility_statements_have_no_line_of_names_but_explain_has() -> None:
    utility = execution(StatementType="UTILITY")
    shown, _ = queries(get_query_execution=utility, get_query_results=results(["tab_name"], ["tab_name"]))
    assert shown.page(ID, None, 10).rows == [["tab_name"]]
    plan, _ = queries(
        get_query_execution=utility, get_query_results=results(["Query Plan"], ["Query Plan"], ["Fragment 0"])
    )
    assert plan.page(ID, None, 10).rows == [["Fragment 0"]]


def test_a_page_of_one_row_asks_for_two() -> None:
    engine, athena = queries(get_query_execution=execution(), get_query_results=results(["a"], ["a"], ["1"]))
    assert engine.page(ID, None, 1).rows == [["1"]]
    assert athena.asked[-1][1]["MaxResults"] == 2


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("9223372036854775807", "bigint", 9223372036854775807),
        ("-3", "tinyint", -3),
        ("1.5", "double", 1.5),
        ("1.0E10", "double", 1e10),
        ("2.5", "float", 2.5),
        ("NaN", "double", "NaN"),
        ("-Infinity", "double", "-Infinity"),
        ("true", "boolean", True),
        ("false", "boolean", False),
        ("0.10", "decimal", "0.10"),
        ("2026-01-01", "date", "2026-01-01"),
        ("", "varchar", ""),
        (None, "bigint", None),
        (None, "varchar", None),
        ("[1, 2]", "array", "[1, 2]"),
    ],
)
def test_values_have_their_columns_types(text: str | None, kind: str, value: object) -> None:
    [found] = typed([text], (ResultColumn("x", kind),))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("kind", ["integer", "bigint", "double"])
def test_a_text_that_is_not_a_number_remains_text(kind: str) -> None:
    assert typed(["volume", None], (ResultColumn("a", kind), ResultColumn("b", kind))) == ["volume", None]


@pytest.mark.parametrize(
    ("state", "kind", "scanned", "usd"),
    [
        ("SUCCEEDED", "DML", 0, 10e6 / 1e12 * 5),
        ("SUCCEEDED", "DML", 10_000_000, 10e6 / 1e12 * 5),
        ("SUCCEEDED", "DML", 10_000_001, 11e6 / 1e12 * 5),
        ("SUCCEEDED", "DML", 10**12, 5),
        ("SUCCEEDED", "UTILITY", 0, 0),
        ("FAILED", "DML", 10**12, 0),
        ("CANCELLED", "DML", 0, 0),
        ("CANCELLED", "DML", 10**12, 5),
        ("RUNNING", "DML", 10**12, 0),
    ],
)
def test_the_estimated_cost(state: str, kind: str, scanned: int, usd: float) -> None:
    status = QueryStatus(ID, "", state, scanned_bytes=scanned, statement_type=kind)
    assert math.isclose(status.cost_usd(5.0), usd)


def test_a_query_that_takes_too_long_is_cancelled() -> None:
    engine, clock = MemoryEngine({"slow": Answer(hold=True)}), Clock()
    query = engine.start("slow")
    with pytest.raises(UnavailableError, match="within 30 s"):
        wait_for_query(engine, query, 30, sleep=clock.sleep, clock=clock)
    assert engine.status(query).state == "CANCELLED"
    assert max(clock.slept) <= 2
    assert clock.slept == sorted(clock.slept)


def test_a_query_that_never_starts_is_cancelled_with_the_reason() -> None:
    status = QueryStatus(ID, "", "QUEUED")
    assert "Athena has not started it within 30 s" in overdue(status, 30)


@pytest.mark.parametrize(
    ("state", "reason", "advice"),
    [
        (
            "FAILED",
            "HIVE_BAD_DATA: Error parsing field value 'x' for field 1",
            "Crawl again",
        ),
        ("FAILED", "HIVE_PARTITION_SCHEMA_MISMATCH: There is a mismatch between", "Crawl again"),
        ("FAILED", "COLUMN_NOT_FOUND: line 1:8: Column 'x' cannot be resolved", "/v1/tables"),
        ("FAILED", "Query cancelled! : Bytes scanned limit was exceeded", "LAKEFEED_QUERY_BYTES_LIMIT"),
        ("FAILED", "Access denied when writing output to url: s3://x", "LAKEFEED_RESULTS_LOCATION"),
        ("FAILED", "line 1:1: mismatched input", None),
        ("FAILED", None, None),
        ("CANCELLED", "HIVE_BAD_DATA: x", None),
    ],
)
def test_advice_is_given_on_failures_that_are_known(
    state: str, reason: str | None, advice: str | None
) -> None:
    found = QueryStatus(ID, "", state, reason).advice
    assert (found is None) if advice is None else (advice in (found or ""))


@pytest.mark.parametrize("said", ["Could not find results", "Query results were not found"])
def test_rows_that_are_gone_are_missing(said: str) -> None:
    engine, _ = queries(
        get_query_execution=execution(), get_query_results=error("InvalidRequestException", said)
    )
    with pytest.raises(MissingError, match="Run the query again"):
        engine.page(ID, None, 10)


def test_waiting_reports_progress_and_ends_with_the_reason() -> None:
    engine, clock, states = MemoryEngine({"slow": Answer(hold=True)}), Clock(), []
    query = engine.start("slow")

    def progress(status: QueryStatus) -> None:
        states.append(status.state)
        if len(states) == 3:
            engine.finish(query, "CANCELLED")

    with pytest.raises(QueryFailedError, match="the query was cancelled: no reason given"):
        wait_for_query(engine, query, 30, progress=progress, sleep=clock.sleep, clock=clock)
    assert states == ["RUNNING"] * 3
