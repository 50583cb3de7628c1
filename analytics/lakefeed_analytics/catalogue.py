"""Reads tables and partitions from the Glue catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from lakefeed_analytics.edge import explained
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common.errors import MissingError

if TYPE_CHECKING:
    from mypy_boto3_glue import GlueClient

_LONGEST_NAME = 255


@dataclass(frozen=True)
class Column:
    """A column; `type` is Hive's, such as `bigint`. `partition` columns come from object keys."""

    name: str
    type: str
    partition: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the catalogue; `location` is its folder, `s3://…/`."""

    name: str
    location: str
    columns: tuple[Column, ...]
    format: str | None = None
    updated: datetime | None = None


@dataclass(frozen=True)
class Partition:
    """One partition; `values` in the order of the table's partition columns."""

    values: tuple[str, ...]
    location: str


class Catalogue(Protocol):
    """The tables and partitions in the catalogue."""

    def tables(self) -> list[Table]:
        """All tables, by name; none if the database does not exist."""
        ...

    def table(self, name: str) -> Table:
        """One table. Raises MissingError."""
        ...

    def partitions(self, table: str) -> list[Partition]:
        """All partitions of a table, by values. Raises MissingError for an unknown table."""
        ...


def table_to_query(catalogue: Catalogue, settings: AnalyticsSettings, wanted: str | None) -> Table:
    """The table of a named query: the one that is asked for, or the first topic's Iceberg table if it exists.

    Raises:
        MissingError: there is no such table.
    """
    if wanted is not None:
        return catalogue.table(wanted)
    try:
        return catalogue.table(settings.default_iceberg_table)
    except MissingError:
        return catalogue.table(settings.default_table)


class GlueCatalogue:
    """The catalogue in Glue."""

    def __init__(self, glue: GlueClient, settings: AnalyticsSettings) -> None:
        self._glue = glue
        self._settings = settings
        self._database = settings.glue_database

    def tables(self) -> list[Table]:
        """All tables, by name."""
        doing = f"listing the tables of the Glue database {self._database}"
        try:
            with explained(self._settings, doing):
                found = [_table(raw) for raw in self._pages("get_tables", "TableList")]
        except MissingError:
            return []
        return sorted(found, key=lambda table: table.name)

    def table(self, name: str) -> Table:
        """One table. Raises MissingError."""
        # Glue would report an impossible name as invalid input.
        if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
            raise MissingError(f"there is no table {name[:_LONGEST_NAME]!r} in {self._database}")
        try:
            with explained(self._settings, f"looking up the table {name}"):
                return _table(self._glue.get_table(DatabaseName=self._database, Name=name)["Table"])
        except MissingError:
            raise MissingError(
                f"there is no table {name!r} in the Glue database {self._database}; "
                "a crawl creates one for each topic that has objects"
            ) from None

    def partitions(self, table: str) -> list[Partition]:
        """All partitions of a table, by values. Raises MissingError for an unknown table."""
        self.table(table)
        with explained(self._settings, f"listing the partitions of {table}"):
            raw = list(self._pages("get_partitions", "Partitions", TableName=table, ExcludeColumnSchema=True))
        found = [
            Partition(tuple(each["Values"]), each.get("StorageDescriptor", {}).get("Location", ""))
            for each in raw
        ]
        return sorted(found, key=lambda partition: partition.values)

    def _pages(self, operation: Any, item: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        pages = self._glue.get_paginator(operation).paginate(DatabaseName=self._database, **arguments)
        for page in pages:
            yield from page[item]


def _table(raw: Any) -> Table:
    storage = raw.get("StorageDescriptor", {})
    columns = [Column(each["Name"], each.get("Type", "string")) for each in storage.get("Columns", [])]
    keys = [
        Column(each["Name"], each.get("Type", "string"), partition=True)
        for each in raw.get("PartitionKeys", [])
    ]
    return Table(
        name=raw["Name"],
        location=storage.get("Location", ""),
        columns=(*columns, *keys),
        format=raw.get("Parameters", {}).get("classification"),
        updated=raw.get("UpdateTime"),
    )
