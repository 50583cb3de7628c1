"""The shapes that the HTTP API takes and gives."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from lakefeed_analytics import athena, catalogue, crawl, queries


class CrawlOut(BaseModel):
    """One crawl."""

    outcome: str = Field(description="`SUCCEEDED`, `FAILED`, `CANCELLED` or `RUNNING`.")
    started: datetime | None = None
    seconds: float | None = Field(None, description="How long it took, where Glue tells.")
    error: str | None = Field(None, description="Glue's word on a failure.")
    dpu_hours: float | None = Field(None, description="What Glue bills, where it tells.")

    @classmethod
    def of(cls, crawl_: crawl.Crawl) -> Self:
        """From the core's shape."""
        return cls.model_validate(crawl_, from_attributes=True)


class CrawlerOut(BaseModel):
    """The crawler and its crawls."""

    state: str = Field(description="`READY`, `RUNNING` or `STOPPING`.")
    running_seconds: float = Field(description="How long the present crawl has run; 0 without one.")
    crawls: list[CrawlOut] = Field(description="Newest first.")


class CrawlStopped(BaseModel):
    """The answer to a wish that the crawl ends."""

    stopped: bool = Field(description="False when no crawl ran.")


class CrawlStarted(BaseModel):
    """The answer to a wish for a crawl."""

    started: bool = Field(description="False when a crawl ran already, which then serves as this one.")


class ColumnOut(BaseModel):
    """A column of a table."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    type: str = Field(description="As the catalogue has it, such as `bigint`.")
    partition: bool = Field(description="Whether its values come from the folders, not from the objects.")


class TableOut(BaseModel):
    """A table of the catalogue."""

    name: str
    location: str
    format: str | None
    updated: datetime | None
    columns: list[ColumnOut]

    @classmethod
    def of(cls, table: catalogue.Table) -> Self:
        """From the core's shape."""
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

    total: int = Field(description="How many there are in all.")
    partitions: list[PartitionOut]


class QueryIn(BaseModel):
    """A query to run."""

    model_config = ConfigDict(extra="forbid")

    sql: str = Field(
        description="One reading statement in Athena's SQL.",
        min_length=1,
        max_length=262_144,
        examples=["SELECT ticker, count(*) AS events FROM demo_testing GROUP BY ticker"],
    )


class RunIn(BaseModel):
    """How to run a named query."""

    model_config = ConfigDict(extra="forbid")

    table: str | None = Field(None, description="The table to read; that of the first topic by default.")


class QueryStarted(BaseModel):
    """The answer to a query: where to look for its state and rows."""

    id: str
    sql: str = Field(description="The statement as it was sent to Athena.")


class QueryOut(BaseModel):
    """How a query stands."""

    id: str
    sql: str
    state: str = Field(description="`QUEUED`, `RUNNING`, `SUCCEEDED`, `FAILED` or `CANCELLED`.")
    reason: str | None = Field(description="Athena's word on a failure.")
    advice: str | None = Field(description="What to do about a failure, where that is known.")
    submitted: datetime | None
    completed: datetime | None
    seconds: float = Field(description="Time taken, queueing included.")
    scanned_bytes: int
    estimated_cost_usd: float = Field(description="By the price of the settings; 0 until it has ended.")

    @classmethod
    def of(cls, status: athena.QueryStatus, price_per_terabyte: float) -> Self:
        """From the core's shape."""
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
    type: str = Field(description="As Athena has it, such as `bigint`.")


class Rows(BaseModel):
    """Rows of a result."""

    columns: list[ResultColumnOut]
    rows: list[list[str | int | float | bool | None]] = Field(
        description="Values in the order of the columns. Integers, floating-point numbers and booleans "
        "are JSON's own; NULL is null; all else, decimals and NaN too, is text as Athena writes it."
    )
    next_page: str | None = Field(
        None, description="Give it as `page` to get the next rows; null at the end."
    )

    @classmethod
    def of(cls, page: athena.Page) -> Self:
        """From the core's shape."""
        columns = [ResultColumnOut.model_validate(column) for column in page.columns]
        return cls(columns=columns, rows=page.rows, next_page=page.next)


class NamedQueryOut(BaseModel):
    """A named query."""

    name: str
    title: str
    description: str
    sql: str = Field(description='Over the table `"${table}"`, which is replaced when it is run.')

    @classmethod
    def of(cls, query: queries.NamedQuery) -> Self:
        """From the core's shape."""
        return cls.model_validate(query, from_attributes=True)


class NamedQueries(BaseModel):
    """All named queries."""

    queries: list[NamedQueryOut]
