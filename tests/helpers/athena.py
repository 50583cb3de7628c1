"""Runs statements in the local Athena, as a client of AWS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.helpers.waiting import wait_for

if TYPE_CHECKING:
    from mypy_boto3_athena import AthenaClient

Row = list[str | None]


def run(athena: AthenaClient, bucket: str, sql: str, database: str = "lake") -> tuple[Any, str]:
    """Run a statement to its end; returns its status and its id."""
    query = athena.start_query_execution(
        QueryString=sql,
        QueryExecutionContext={"Database": database},
        ResultConfiguration={"OutputLocation": f"s3://{bucket}/results/"},
    )["QueryExecutionId"]

    def status() -> Any:
        return athena.get_query_execution(QueryExecutionId=query)["QueryExecution"]["Status"]

    wait_for(lambda: status()["State"] not in ("QUEUED", "RUNNING"), 60, "the query does not end")
    return status(), query


def rows(athena: AthenaClient, bucket: str, sql: str, database: str = "lake") -> list[Row]:
    """The rows of a query that succeeds, without the header."""
    status, query = run(athena, bucket, sql, database)
    assert status["State"] == "SUCCEEDED", status
    found = athena.get_query_results(QueryExecutionId=query)["ResultSet"]["Rows"][1:]
    return [[datum.get("VarCharValue") for datum in row["Data"]] for row in found]


def failure(athena: AthenaClient, bucket: str, sql: str, database: str = "lake") -> str:
    """The reason of a statement that fails."""
    status, _ = run(athena, bucket, sql, database)
    assert status["State"] == "FAILED", status
    return str(status["StateChangeReason"])
