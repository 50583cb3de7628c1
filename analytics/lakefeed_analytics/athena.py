"""Runs queries in Athena and reads their results page by page as typed values."""

from __future__ import annotations

import base64
import binascii
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from botocore.exceptions import ClientError

from lakefeed_analytics import edge
from lakefeed_analytics.edge import explained
from lakefeed_analytics.errors import ConflictError, QueryFailedError, StatementError
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common.errors import InputError, MissingError, RefusedError, UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_athena import AthenaClient

_FIRST_POLL, _LONGEST_POLL = 0.1, 2.0
_BATCH = 50  # https://docs.aws.amazon.com/athena/latest/APIReference/API_BatchGetQueryExecution.html
_LONGEST_ID = 128
# A part of Athena's error message, and advice. The first match is used.
_ADVICE = (
    (
        "HIVE_PARTITION_SCHEMA_MISMATCH",
        "A partition's columns differ from the table's. Crawl again to align them.",
    ),
    (
        "HIVE_BAD_DATA",
        "A value does not match the type of its column. Crawl again to widen the type, and remove "
        "objects that are not events from the topic's folder.",
    ),
    ("HIVE_CURSOR_ERROR", "An object of the table cannot be read: it is not JSON, or truncated."),
    ("COLUMN_NOT_FOUND", "The table's columns are listed at /v1/tables. A crawl adds new ones."),
    ("TABLE_NOT_FOUND", "The tables are listed at /v1/tables. A crawl creates one per topic with objects."),
    ("limit", "LAKEFEED_QUERY_BYTES_LIMIT limits what a query may scan. Restrict the days: WHERE dt = '…'."),
    (
        "output",
        "Athena cannot write the result. Check that the bucket of LAKEFEED_RESULTS_LOCATION exists and that "
        "the credentials may write to it.",
    ),
)
_MEGABYTE, _TERABYTE = 10**6, 10**12

Value = str | int | float | bool | None


@dataclass(frozen=True)
class QueryStatus:
    """The status of a query. `reason` is Athena's message about a failure."""

    id: str
    sql: str
    state: str
    reason: str | None = None
    submitted: datetime | None = None
    completed: datetime | None = None
    scanned_bytes: int = 0
    seconds: float = 0.0
    statement_type: str = "DML"

    @property
    def advice(self) -> str | None:
        """What to do about a failure, if known."""
        reason = self.reason or ""
        return next((advice for text, advice in _ADVICE if self.state == "FAILED" and text in reason), None)

    @property
    def done(self) -> bool:
        """Whether it has ended, successfully or not."""
        return self.state not in ("QUEUED", "RUNNING")

    def cost_usd(self, price_per_terabyte: float) -> float:
        """The estimated cost: whole megabytes, at least ten; failures and utility statements are free."""
        if not self.done or self.state == "FAILED" or self.statement_type != "DML":
            return 0.0
        if self.state == "CANCELLED" and not self.scanned_bytes:
            return 0.0
        megabytes = max(10, math.ceil(self.scanned_bytes / _MEGABYTE))
        return megabytes * _MEGABYTE / _TERABYTE * price_per_terabyte


@dataclass(frozen=True)
class ResultColumn:
    """A column of a result; `type` is Athena's, such as `bigint`."""

    name: str
    type: str


@dataclass(frozen=True)
class Page:
    """Rows of a result, values in the order of `columns`; `next` is the token of the next page, if any."""

    columns: tuple[ResultColumn, ...]
    rows: list[list[Value]]
    next: str | None = None


class QueryEngine(Protocol):
    """Runs SQL."""

    def start(self, sql: str) -> str:
        """Start a query and return its id. Raises StatementError if it is malformed."""
        ...

    def status(self, query: str) -> QueryStatus:
        """The status of a query. Raises MissingError."""
        ...

    def statuses(self, queries: list[str]) -> list[QueryStatus]:
        """The status of several queries, without those that do not exist."""
        ...

    def page(self, query: str, token: str | None, limit: int) -> Page:
        """At most `limit` rows of a succeeded query.

        Raises:
            MissingError: there is no such query.
            QueryFailedError: it failed or was cancelled.
            ConflictError: it has not ended yet.
            InputError: the token is not one of this query.
        """
        ...

    def cancel(self, query: str) -> None:
        """Cancel a query. A query that has ended is not changed. Raises MissingError."""
        ...

    def recent(self, limit: int) -> list[QueryStatus]:
        """The latest queries, newest first."""
        ...


class AthenaQueries:
    """Athena, in the workgroup and database of the settings."""

    def __init__(self, athena: AthenaClient, settings: AnalyticsSettings) -> None:
        self._athena = athena
        self._settings = settings

    def start(self, sql: str) -> str:
        """Start a query and return its id. Raises StatementError if it is malformed."""
        with explained(self._settings, "starting a query"):
            try:
                # boto3 sends the same ClientRequestToken with each retry, so a start whose response is
                # lost does not become a second query.
                answer = self._athena.start_query_execution(
                    QueryString=sql,
                    QueryExecutionContext={"Database": self._settings.glue_database},
                    WorkGroup=self._settings.workgroup,
                )
            except ClientError as error:
                if error.response.get("AthenaErrorCode") == "MALFORMED_QUERY":
                    raise StatementError(edge.message(error)) from error
                if "output bucket" in edge.message(error).lower():
                    raise RefusedError(
                        f"starting a query: Athena cannot write results to {self._settings.results}: "
                        f"{edge.message(error)}. Check that the bucket of LAKEFEED_RESULTS_LOCATION exists "
                        "and that the credentials allow writing to it."
                    ) from error
                raise
        return str(answer["QueryExecutionId"])

    def status(self, query: str) -> QueryStatus:
        """The status of a query. Raises MissingError."""
        missing = MissingError(f"there is no query {query[:_LONGEST_ID]!r}")
        if not query.isprintable() or not 0 < len(query) <= _LONGEST_ID or " " in query:
            raise missing
        try:
            with explained(self._settings, f"reading the status of the query {query}"):
                raw = self._athena.get_query_execution(QueryExecutionId=query)["QueryExecution"]
        except MissingError:
            raise missing from None
        # The account may run other queries, which are not accessible here.
        if raw.get("WorkGroup", self._settings.workgroup) != self._settings.workgroup:
            raise missing
        return _status(raw)

    def statuses(self, queries: list[str]) -> list[QueryStatus]:
        """The status of several queries, without those that do not exist."""
        found: list[QueryStatus] = []
        with explained(self._settings, "reading the status of queries"):
            for start in range(0, len(queries), _BATCH):
                answer = self._athena.batch_get_query_execution(
                    QueryExecutionIds=queries[start : start + _BATCH]
                )
                found += [_status(raw) for raw in answer["QueryExecutions"]]
        return found

    def page(self, query: str, token: str | None, limit: int) -> Page:
        """At most `limit` rows of a succeeded query; the first page of a SELECT may have one fewer."""
        arguments: dict[str, Any] = {"NextToken": inner_token(query, token)} if token else {}
        status = self.status(query)
        if status.state in ("FAILED", "CANCELLED"):
            raise QueryFailedError(f"the query {query} {_ended(status)}")
        if not status.done:
            raise ConflictError(f"the query {query} is {status.state.lower()}; it has no rows yet")
        try:
            with explained(self._settings, f"reading the result of the query {query}"):
                # Athena counts the header row: a single row might contain only that.
                answer = self._athena.get_query_results(
                    QueryExecutionId=query, MaxResults=max(limit, 2), **arguments
                )
        except MissingError:
            raise MissingError(
                f"the rows of the query {query} no longer exist: the result object was deleted or has "
                "expired. Run the query again"
            ) from None
        info = answer["ResultSet"]["ResultSetMetadata"].get("ColumnInfo", [])
        columns = tuple(ResultColumn(each["Name"], each["Type"]) for each in info)
        texts = [
            [datum.get("VarCharValue") for datum in row.get("Data", [])]
            for row in answer["ResultSet"].get("Rows", [])
        ]
        if token is None and texts and _is_header(texts[0], columns, status.statement_type):
            del texts[0]
        following = answer.get("NextToken")
        return Page(
            columns,
            [typed(row, columns) for row in texts],
            page_token(query, following) if following else None,
        )

    def cancel(self, query: str) -> None:
        """Cancel a query. A query that has ended is not changed. Raises MissingError."""
        if self.status(query).done:
            return
        with explained(self._settings, f"cancelling the query {query}"):
            self._athena.stop_query_execution(QueryExecutionId=query)

    def recent(self, limit: int) -> list[QueryStatus]:
        """The latest queries, newest first."""
        ids: list[str] = []
        with explained(self._settings, f"listing the queries of the workgroup {self._settings.workgroup}"):
            following: dict[str, Any] = {}
            while len(ids) < limit:
                answer = self._athena.list_query_executions(
                    WorkGroup=self._settings.workgroup, MaxResults=min(limit - len(ids), _BATCH), **following
                )
                ids += answer["QueryExecutionIds"]
                if not answer.get("NextToken"):
                    break
                following = {"NextToken": answer["NextToken"]}
        found = self.statuses(ids)
        found.sort(key=lambda status: status.submitted.timestamp() if status.submitted else 0, reverse=True)
        return found[:limit]


def _status(raw: Any) -> QueryStatus:
    status, statistics = raw["Status"], raw.get("Statistics", {})
    return QueryStatus(
        id=raw["QueryExecutionId"],
        sql=raw.get("Query", ""),
        state=status["State"],
        reason=status.get("StateChangeReason") or None,
        submitted=status.get("SubmissionDateTime"),
        completed=status.get("CompletionDateTime"),
        scanned_bytes=statistics.get("DataScannedInBytes", 0),
        seconds=statistics.get("TotalExecutionTimeInMillis", 0) / 1000,
        statement_type=raw.get("StatementType", "DML"),
    )


def _ended(status: QueryStatus) -> str:
    how = "failed" if status.state == "FAILED" else f"was {status.state.lower()}"
    outcome = f"{how}: {status.reason or 'no reason given'}"
    return f"{outcome.rstrip('.')}. {status.advice}" if status.advice else outcome


def overdue(status: QueryStatus, limit: float) -> str:
    """The reason for cancelling a query that has not ended after `limit` seconds."""
    if status.state == "QUEUED":
        return (
            f"Athena has not started it within {limit:g} s: the account's quota of queries is used up. "
            "Try again later, or request a higher quota"
        )
    return f"it did not end within {limit:g} s. Increase LAKEFEED_QUERY_TIMEOUT_SECONDS if it needs more"


def _is_header(row: list[str | None], columns: tuple[ResultColumn, ...], statement_type: str) -> bool:
    names = [column.name for column in columns]
    # SHOW and DESCRIBE have no header row; EXPLAIN, also a utility statement, has one.
    return row == names and (statement_type == "DML" or names == ["Query Plan"])


def typed(row: list[str | None], columns: tuple[ResultColumn, ...]) -> list[Value]:
    """Convert the texts of a row to the types of their columns; a missing text is NULL."""
    return [
        None if text is None else _value(text, column.type)
        for text, column in zip(row, columns, strict=False)
    ]


def _value(text: str, kind: str) -> Value:
    """Convert integers, floating-point numbers and booleans; others, including decimals, remain text."""
    match kind.lower():
        case "tinyint" | "smallint" | "int" | "integer" | "bigint":
            number = _number(int, text)
        case "double" | "float" | "real":
            number = _number(float, text)
        case "boolean":
            return text.lower() == "true"
        case _:
            return text
    # JSON supports neither NaN nor infinities.
    return number if number is not None and math.isfinite(number) else text


def _number(kind: Callable[[str], int | float], text: str) -> int | float | None:
    try:
        return kind(text)
    except ValueError:
        # With a forged token, a page may contain the header row.
        return None


def page_token(query: str, token: str) -> str:
    """Athena's token, combined with the id of its query."""
    return base64.urlsafe_b64encode(orjson.dumps([query, token])).decode()


def inner_token(query: str, token: str) -> str:
    """Athena's token inside of ours. Raises InputError if it does not belong to this query."""
    try:
        owner, inner = orjson.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, TypeError, binascii.Error):
        raise InputError("`page` is not a token from this service") from None
    if owner != query or not isinstance(inner, str) or not inner:
        raise InputError(f"`page` is not a token of the query {query}")
    return inner


def wait_for_query(
    engine: QueryEngine,
    query: str,
    limit: float,
    *,
    progress: Callable[[QueryStatus], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> QueryStatus:
    """Wait until a query has succeeded; cancel it after `limit` seconds.

    Raises:
        QueryFailedError: it failed or was cancelled, with Athena's reason.
        UnavailableError: it took too long.
    """
    start, pause = clock(), _FIRST_POLL
    while not (status := engine.status(query)).done:
        progress(status)
        if clock() - start > limit:
            engine.cancel(query)
            raise UnavailableError(f"the query was cancelled: {overdue(status, limit)}")
        sleep(pause)
        pause = min(pause * 1.5, _LONGEST_POLL)
    if status.state != "SUCCEEDED":
        raise QueryFailedError(f"the query {_ended(status)}")
    return status
