"""Brings the Glue catalogue up to date with what a crawl found."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Protocol, Self, TypeVar

from lakefeed_common.errors import RefusedError
from lakefeed_local.crawl.changes import Changes
from lakefeed_local.crawl.definition import Definition
from lakefeed_local.crawl.finder import FoundPartition, FoundTable, Stats
from lakefeed_local.crawl.layout import other_name
from lakefeed_local.crawl.schema import Columns, left_out, table_columns, unknown_names

log = logging.getLogger(__name__)

T = TypeVar("T")

_NUMBERS = ("int", "bigint", "double")
# Glue's own limit of partitions a call.
_BATCH = 100
# How many names a message shows, and how much of each.
_SHOWN = 20


class Glue(Protocol):
    """The actions of Glue."""

    async def glue(self, action: str, **data: Any) -> dict[str, Any]:
        """Call an action."""
        ...

    def glue_pages(self, action: str, **data: Any) -> AsyncIterator[dict[str, Any]]:
        """Call an action for all its pages."""
        ...


class Catalogue:
    """The tables of one crawler's database.

    Args:
        glue: where the catalogue is.
        definition: the crawler.
        tables: the database's tables by name.
        changes: gets what was changed.
    """

    def __init__(
        self, glue: Glue, definition: Definition, tables: dict[str, dict[str, Any]], changes: Changes
    ) -> None:
        self._glue = glue
        self._definition = definition
        self._tables = tables
        self._changes = changes

    @classmethod
    async def read(cls, glue: Glue, definition: Definition, changes: Changes) -> Self:
        """Read the tables of the crawler's database."""
        pages = glue.glue_pages("GetTables", DatabaseName=definition.database)
        tables = {table["Name"]: table async for page in pages for table in page["TableList"]}
        return cls(glue, definition, tables, changes)

    async def apply(self, found: FoundTable) -> None:
        """Create or update one table and its partitions."""
        if not found.partitions:
            return
        name = self._name(found)
        _warn_of_left_out(name, found)
        existing = self._tables.get(name)
        if existing is None:
            table = self._table_input(name, found, table_columns(found.columns or {}, found.keys))
            await self._call("CreateTable", TableInput=table)
            self._changes.created.append(name)
        else:
            table = await self._update_table(existing, found)
        self._tables[name] = table
        if found.keys:
            await self._apply_partitions(table, found)

    def _name(self, found: FoundTable) -> str:
        """The table's name, or another when a table of another place has it."""
        name = self._definition.prefix + found.name
        taken = self._tables.get(name)
        if taken is None or taken["StorageDescriptor"].get("Location") == found.location:
            return name
        return other_name(name, found.location)

    async def _call(self, action: str, **data: Any) -> dict[str, Any]:
        return await self._glue.glue(action, DatabaseName=self._definition.database, **data)

    # ---- tables ----

    def _table_input(self, name: str, found: FoundTable, columns: list[dict[str, str]]) -> dict[str, Any]:
        parameters = {
            **_parameters(found.stats, found.columns),
            "UPDATED_BY_CRAWLER": self._definition.name,
        }
        return {
            "Name": name,
            "Owner": "owner",
            "Retention": 0,
            "TableType": "EXTERNAL_TABLE",
            "PartitionKeys": [{"Name": key, "Type": "string"} for key in found.keys],
            "Parameters": parameters,
            "StorageDescriptor": _storage(found.location, columns, parameters),
        }

    async def _update_table(self, existing: dict[str, Any], found: FoundTable) -> dict[str, Any]:
        """The table as it is in the catalogue afterwards."""
        before = existing["StorageDescriptor"].get("Columns", [])
        # Only a sample was read: what it does not show may still be there.
        columns = table_columns(found.columns or {}, found.keys)
        seen = _at_least(columns, before, unknown_names(found.columns or {}))
        columns = _with_missing(seen, before, found.keys)
        table = self._table_input(existing["Name"], found, columns)
        # Parameters that others set are kept.
        table["Parameters"] = {**existing.get("Parameters", {}), **table["Parameters"]}
        keys_before = [key["Name"] for key in existing.get("PartitionKeys", [])]
        if columns != before or list(found.keys) != keys_before:
            self._changes.updated.append(existing["Name"])
        changed = ("Parameters", "StorageDescriptor", "PartitionKeys")
        if any(existing.get(part) != table[part] for part in changed):
            await self._call("UpdateTable", TableInput=table)
        return table

    # ---- partitions ----

    async def _apply_partitions(self, table: dict[str, Any], found: FoundTable) -> None:
        name = table["Name"]
        pages = self._glue.glue_pages("GetPartitions", DatabaseName=self._definition.database, TableName=name)
        existing = {tuple(part["Values"]): part async for page in pages for part in page["Partitions"]}
        inputs = {part.values: _partition_input(table, part) for part in found.partitions}
        await self._add(name, [given for values, given in inputs.items() if values not in existing])
        changed = [
            given
            for values, given in inputs.items()
            if values in existing and _schema(given) != _schema(existing[values])
        ]
        await self._change(name, changed)

    async def _add(self, table: str, parts: list[dict[str, Any]]) -> None:
        for batch in _batches(parts):
            answer = await self._call("BatchCreatePartition", TableName=table, PartitionInputList=batch)
            _check(answer, f"Adding partitions to {table}", "AlreadyExistsException")
        self._changes.partitions_added += len(parts)

    async def _change(self, table: str, parts: list[dict[str, Any]]) -> None:
        for batch in _batches(parts):
            entries = [{"PartitionValueList": part["Values"], "PartitionInput": part} for part in batch]
            answer = await self._call("BatchUpdatePartition", TableName=table, Entries=entries)
            _check(answer, f"Updating partitions of {table}")
        self._changes.partitions_updated += len(parts)


def _partition_input(table: dict[str, Any], part: FoundPartition) -> dict[str, Any]:
    """A partition; it inherits the columns of its table."""
    parameters = _parameters(part.stats, part.columns)
    columns = table["StorageDescriptor"]["Columns"]
    return {
        "Values": list(part.values),
        "Parameters": parameters,
        "StorageDescriptor": _storage(part.location, columns, parameters),
    }


def _warn_of_left_out(name: str, found: FoundTable) -> None:
    if without := left_out(found.columns or {}, found.keys):
        log.warning(
            "The table %s has no column for these keys of its objects, which are a partition key's name or "
            "no valid name of a column: %s. Rename them where the events are made",
            name,
            ", ".join(repr(key[:_SHOWN]) for key in without[:_SHOWN]),
        )


def _with_missing(
    columns: list[dict[str, str]], before: list[dict[str, str]], keys: tuple[str, ...]
) -> list[dict[str, str]]:
    """The columns in their old order, then the new ones; old ones that were not seen again stay."""
    seen = {column["Name"]: column for column in columns}
    old = [seen.pop(column["Name"], column) for column in before if column["Name"] not in keys]
    return [*old, *seen.values()]


def _at_least(
    columns: list[dict[str, str]], before: list[dict[str, str]], unknown: set[str]
) -> list[dict[str, str]]:
    """The columns with no type narrower than it was: a sample may show whole numbers or nulls only."""
    types = {column["Name"]: column["Type"] for column in before}

    def wider(name: str, now: str) -> str:
        then = types.get(name, now)
        if name in unknown:
            return then
        return max(then, now, key=_NUMBERS.index) if {then, now} <= set(_NUMBERS) else now

    return [{**column, "Type": wider(column["Name"], column["Type"])} for column in columns]


def _schema(part: dict[str, Any]) -> tuple[Any, ...]:
    storage = part["StorageDescriptor"]
    return (storage.get("Columns"), storage.get("Location"), storage.get("SerdeInfo"))


def _parameters(stats: Stats, columns: Columns | None) -> dict[str, str]:
    return {
        "CrawlerSchemaDeserializerVersion": "1.0",
        "CrawlerSchemaSerializerVersion": "1.0",
        "averageRecordSize": str(stats.size // stats.records if stats.records else 0),
        "classification": "UNKNOWN" if columns is None else "json",
        "compressionType": "gzip" if stats.compressed else "none",
        "objectCount": str(stats.objects),
        "recordCount": str(stats.records),
        "sizeKey": str(stats.size),
        "typeOfData": "file",
    }


def _storage(location: str, columns: list[dict[str, str]], parameters: dict[str, str]) -> dict[str, Any]:
    return {
        "Columns": columns,
        "Location": location,
        "InputFormat": "org.apache.hadoop.mapred.TextInputFormat",
        "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
        "Compressed": parameters["compressionType"] != "none",
        "NumberOfBuckets": -1,
        "SerdeInfo": {
            "SerializationLibrary": "org.openx.data.jsonserde.JsonSerDe",
            "Parameters": {"paths": ",".join(column["Name"] for column in columns)},
        },
        "BucketColumns": [],
        "SortColumns": [],
        "Parameters": parameters,
        "StoredAsSubDirectories": False,
    }


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


def _check(answer: dict[str, Any], doing: str, harmless: str = "") -> None:
    for error in answer.get("Errors", []):
        detail = error.get("ErrorDetail", {})
        if detail.get("ErrorCode") != harmless:
            raise RefusedError(f"{doing}: {detail.get('ErrorCode')}: {detail.get('ErrorMessage')}")
