"""Request and response models of the HTTP API."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from lakefeed_analytics import athena, catalogue, crawl, queries


class CrawlOut(BaseModel):
    """One crawl."""

    outcome: str = Field(description="`SUCCEEDED`, `FAILED`, `CANCELLED` or `RUNNING`.")
    started: datetime | None = None
    seconds: float | None = Field(None, description="Duration, if Glue reports it.")
    error: str | None = Field(None, description="Glue's error message.")
    dpu_hours: float | None = Field(None, description="DPU-hours billed, if Glue reports them.")

    @classmethod
    def of(cls, crawl_: crawl.Crawl) -> Self:
        """Convert from the core type."""
        return cls.model_validate(crawl_, from_attributes=True)


class CrawlerOut(BaseModel):
    """The crawler and its crawls."""

    state: str = Field(description="`READY`, `RUNNING` or `STOPPING`.")
    running_seconds: float = Field(description="How long the current crawl has been running; 0 without one.")
    crawls: list[CrawlOut] = Field(description="Newest first.")


class CrawlStopped(BaseModel):
    """Response to stopping the crawl."""

    stopped: bool = Field(description="False if no crawl was running.")


class CrawlStarted(BaseModel):
    """Response to starting a crawl."""

    started: bool = Field(description="False if a crawl was already running, which was joined.")


class ColumnOut(BaseModel):
    """A column of a table."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    type: str = Field(description="Type in the catalogue, such as `bigint`.")
    partition: bool = Field(description="Whether its values come from the folder names.")


class TableOut(BaseModel):
    """A table of the catalogue."""

    name: str
    location: str
    format: str | None
    updated: datetime | None
    columns: list[ColumnOut]

    @classmethod
    def of(cls, table: catalogue.Table) -> Self:
        """Convert from the core type."""
        return cls.model_validate(table, from_attributes=True)


class Tables(BaseModel):
    """All tables, by name."""

    tables: list[TableOut]


class PartitionOut(BaseModel):
    """A partition of a table."""

    values: list[str] = Field(description="In the order of the table's partition columns.")
    location: str


class Partitions(BaseModel):
    """Partitions of a table, newest values first."""

    total: int = Field(description="Total number of partitions.")
    partitions: list[PartitionOut]


class QueryIn(BaseModel):
    """A query to run."""

    model_config = ConfigDict(extra="forbid")

    sql: str = Field(
        description="One read-only statement in Athena's SQL.",
        min_length=1,
        max_length=262_144,
        examples=["SELECT ticker, count(*) AS events FROM demo_testing GROUP BY ticker"],
    )


class RunIn(BaseModel):
    """How to run a named query."""

    model_config = ConfigDict(extra="forbid")

    table: str | None = Field(
        None, description="The table to query; by default the first topic's Iceberg table, or its other one."
    )


class QueryStarted(BaseModel):
    """Response to starting a query: its id, for its status and rows."""

    id: str
    sql: str = Field(description="The statement as it was sent to Athena.")


class QueryOut(BaseModel):
    """The status of a query."""

    id: str
    sql: str
    state: str = Field(description="`QUEUED`, `RUNNING`, `SUCCEEDED`, `FAILED` or `CANCELLED`.")
    reason: str | None = Field(description="Athena's error message.")
    advice: str | None = Field(description="What to do about a failure, if known.")
    submitted: datetime | None
    completed: datetime | None
    seconds: float = Field(description="Duration, including time in the queue.")
    scanned_bytes: int
    estimated_cost_usd: float = Field(description="Based on the configured price; 0 until it has ended.")

    @classmethod
    def of(cls, status: athena.QueryStatus, price_per_terabyte: float) -> Self:
        """Convert from the core type."""
        return cls(
            id=status.id,
            sql=status.sql,
            state=status.state,
            reason=status.reason,
            advice=status.advice,
            submitted=status.submitted,
            completed=status.completed,
            seconds=status.seconds,
            scanned_bytes=status.scanned_bytes,
            estimated_cost_usd=status.cost_usd(price_per_terabyte),
        )


class Queries(BaseModel):
    """Queries of the workgroup, newest first."""

    queries: list[QueryOut]


class ResultColumnOut(BaseModel):
    """A column of a result."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    type: str = Field(description="Athena's type, such as `bigint`.")


class Rows(BaseModel):
    """Rows of a result."""

    columns: list[ResultColumnOut]
    rows: list[list[str | int | float | bool | None]] = Field(
        description="Values in the order of the columns. Integers, floating-point numbers and booleans are "
        "JSON values, NULL is null; others, including decimals and NaN, are text as returned by Athena."
    )
    next_page: str | None = Field(
        None, description="Pass it as `page` to get the next rows; null at the end."
    )

    @classmethod
    def of(cls, page: athena.Page) -> Self:
        """Convert from the core type."""
        columns = [ResultColumnOut.model_validate(column) for column in page.columns]
        return cls(columns=columns, rows=page.rows, next_page=page.next)


class NamedQueryOut(BaseModel):
    """A named query."""

    name: str
    title: str
    description: str
    sql: str = Field(description='Queries the placeholder table `"${table}"`.')

    @classmethod
    def of(cls, query: queries.NamedQuery) -> Self:
        """Convert from the core type."""
        return cls.model_validate(query, from_attributes=True)


class NamedQueries(BaseModel):
    """All named queries."""

    queries: list[NamedQueryOut]
