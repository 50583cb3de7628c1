"""Brings the Glue catalogue up to date with what a crawl found, under the crawler's policies."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lakefeed_common.errors import LakefeedError
from lakefeed_local.crawler import Definition, FoundPartition, FoundTable, Stats
from lakefeed_local.layout import other_name
from lakefeed_local.schema import Columns, left_out, table_columns, unknown_names

log = logging.getLogger(__name__)

T = TypeVar("T")

_NUMBERS = ("int", "bigint", "double")
# Glue's own limit of partitions a call.
_BATCH = 100
# So many names are shown in a message, and so much of each.
_SHOWN = 20
# What UpdateTable takes of what GetTable gives.
_TABLE_INPUT = (
    "Name",
    "Description",
    "Owner",
    "Retention",
    "StorageDescriptor",
    "PartitionKeys",
    "TableType",
    "Parameters",
)


@dataclass
class Changes:
    """Names of tables, and numbers of partitions, that a crawl changed."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    partitions_added: int = 0
    partitions_updated: int = 0
    partitions_deleted: int = 0

    def counts(self) -> dict[str, int]:
        """For GetCrawlerMetrics."""
        return {
            "TablesCreated": len(self.created),
            "TablesUpdated": len(self.updated),
            "TablesDeleted": len(self.deleted),
        }

    def summary(self) -> dict[str, Any]:
        """For ListCrawls, in the form that Glue gives it."""
        tables = {"ADD": self.created, "UPDATE": self.updated, "DELETE": self.deleted}
        partitions = {
            "ADD": self.partitions_added,
            "UPDATE": self.partitions_updated,
            "DELETE": self.partitions_deleted,
        }
        told = {
            "TABLE": {
                action: {"Details": {"names": names}, "Count": len(names)}
                for action, names in tables.items()
                if names
            },
            "PARTITION": {action: {"Count": count} for action, count in partitions.items() if count},
        }
        return {kind: actions for kind, actions in told.items() if actions}


class Catalogue:
    """The tables of one crawler's database.

    Args:
        glue: a boto3 client.
        checkpoint: called between steps; raises to end the crawl.
        changes: gets what was done.
    """

    def __init__(
        self, glue: Any, definition: Definition, checkpoint: Callable[[], None], changes: Changes
    ) -> None:
        self._glue = glue
        self._definition = definition
        self._checkpoint = checkpoint
        pages = glue.get_paginator("get_tables").paginate(DatabaseName=definition.database)
        self._tables = {table["Name"]: table for page in pages for table in page["TableList"]}
        self.changes = changes

    def known(self, found: FoundTable) -> set[tuple[str, ...]]:
        """The values of the partitions that the catalogue has of a table."""
        name = self._name(found)
        return set(self._partitions(name)) if name in self._tables else set()

    def apply(self, found: FoundTable) -> None:
        """Create or update one table and its partitions."""
        if not found.partitions:
            return
        name = self._name(found)
        existing = self._tables.get(name)
        if without := left_out(found.columns or {}, found.keys):
            log.warning(
                "The table %s has no column for keys of its objects whose names are a partition key's, or no "
                "column's: %s. Rename them where the events are made",
                name,
                ", ".join(repr(key[:_SHOWN]) for key in without[:_SHOWN]),
            )
        if existing is None:
            table = self._table_input(name, found, _columns(found))
            self._glue.create_table(DatabaseName=self._definition.database, TableInput=table)
            self.changes.created.append(name)
        else:
            table = self._update_table(existing, found)
        self._tables[name] = table
        if found.keys:
            self._apply_partitions(table, found)

    def apply_missing(self, found: Sequence[FoundTable]) -> None:
        """Deal with tables that this crawler made and whose objects are gone, as its policy says."""
        definition = self._definition
        if definition.new_folders_only or definition.delete == "LOG":
            return
        present = {self._name(table) for table in found}
        for name, table in list(self._tables.items()):
            mine = table.get("Parameters", {}).get("UPDATED_BY_CRAWLER") == definition.name
            if not mine or name in present:
                continue
            if definition.delete == "DELETE_FROM_DATABASE":
                self._glue.delete_table(DatabaseName=definition.database, Name=name)
                del self._tables[name]
            else:
                table["Parameters"] = _deprecated(table["Parameters"])
                self._put_table(table)
            self.changes.deleted.append(name)

    def _name(self, found: FoundTable) -> str:
        """The table's name, or another when a table of another place has it."""
        taken = self._tables.get(found.name)
        if taken is None or taken["StorageDescriptor"].get("Location") == found.location:
            return found.name
        return other_name(found.name, found.location)

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

    def _update_table(self, existing: dict[str, Any], found: FoundTable) -> dict[str, Any]:
        """The table as it is in the catalogue afterwards."""
        if not self._definition.update:
            return existing
        before = existing["StorageDescriptor"].get("Columns", [])
        # Only a sample was read: what it does not show may still be there.
        seen = _at_least(_columns(found), before, unknown_names(found.columns or {}))
        columns = _with_missing(seen, before, found.keys)
        table = self._table_input(existing["Name"], found, columns)
        table["Parameters"] = {**_live(existing.get("Parameters", {})), **table["Parameters"]}
        keys_before = [key["Name"] for key in existing.get("PartitionKeys", [])]
        if columns != before or list(found.keys) != keys_before:
            self.changes.updated.append(existing["Name"])
        if any(
            existing.get(part) != table[part] for part in ("Parameters", "StorageDescriptor", "PartitionKeys")
        ):
            self._put_table(table)
        return table

    def _put_table(self, table: dict[str, Any]) -> None:
        given = {part: table[part] for part in _TABLE_INPUT if table.get(part) is not None}
        self._glue.update_table(DatabaseName=self._definition.database, TableInput=given)

    # ---- partitions ----

    def _partitions(self, table: str) -> dict[tuple[str, ...], dict[str, Any]]:
        pages = self._glue.get_paginator("get_partitions").paginate(
            DatabaseName=self._definition.database, TableName=table
        )
        return {tuple(part["Values"]): part for page in pages for part in page["Partitions"]}

    def _apply_partitions(self, table: dict[str, Any], found: FoundTable) -> None:
        name = table["Name"]
        existing = self._partitions(name)
        inputs = {part.values: self._partition_input(table, part, found.keys) for part in found.partitions}
        self._add(name, [given for values, given in inputs.items() if values not in existing])
        if self._definition.update:
            changed = [
                given
                for values, given in inputs.items()
                if values in existing and _schema(given) != _schema(existing[values])
            ]
            self._change(name, changed)
        if not self._definition.new_folders_only and self._definition.delete != "LOG":
            self._remove(name, [part for values, part in existing.items() if values not in inputs])

    def _partition_input(
        self, table: dict[str, Any], part: FoundPartition, keys: tuple[str, ...]
    ) -> dict[str, Any]:
        parameters = _parameters(part.stats, part.columns)
        if self._definition.inherit:
            columns = table["StorageDescriptor"]["Columns"]
        else:
            columns = table_columns(part.columns or {}, keys)
        return {
            "Values": list(part.values),
            "Parameters": parameters,
            "StorageDescriptor": _storage(part.location, columns, parameters),
        }

    def _add(self, table: str, parts: list[dict[str, Any]]) -> None:
        for batch in _batches(parts):
            self._checkpoint()
            answer = self._glue.batch_create_partition(
                DatabaseName=self._definition.database, TableName=table, PartitionInputList=batch
            )
            _check(answer, f"adding partitions to {table}", "AlreadyExistsException")
        self.changes.partitions_added += len(parts)

    def _change(self, table: str, parts: list[dict[str, Any]]) -> None:
        for batch in _batches(parts):
            self._checkpoint()
            answer = self._glue.batch_update_partition(
                DatabaseName=self._definition.database,
                TableName=table,
                Entries=[{"PartitionValueList": part["Values"], "PartitionInput": part} for part in batch],
            )
            _check(answer, f"updating partitions of {table}")
        self.changes.partitions_updated += len(parts)

    def _remove(self, table: str, parts: list[dict[str, Any]]) -> None:
        """Delete or deprecate partitions whose objects are gone."""
        if self._definition.delete == "DELETE_FROM_DATABASE":
            for part in parts:
                self._checkpoint()
                self._glue.delete_partition(
                    DatabaseName=self._definition.database, TableName=table, PartitionValues=part["Values"]
                )
            self.changes.partitions_deleted += len(parts)
        else:
            live = [part for part in parts if "DEPRECATED_BY_CRAWLER" not in part.get("Parameters", {})]
            deprecated = [
                {
                    "Values": part["Values"],
                    "StorageDescriptor": part["StorageDescriptor"],
                    "Parameters": _deprecated(part.get("Parameters", {})),
                }
                for part in live
            ]
            self._change(table, deprecated)


def _columns(found: FoundTable) -> list[dict[str, str]]:
    return table_columns(found.columns or {}, found.keys)


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


def _live(parameters: dict[str, str]) -> dict[str, str]:
    """Parameters that others set are kept; a table that has objects again is no longer deprecated."""
    return {name: value for name, value in parameters.items() if name != "DEPRECATED_BY_CRAWLER"}


def _deprecated(parameters: dict[str, str]) -> dict[str, str]:
    return {"DEPRECATED_BY_CRAWLER": str(int(time.time() * 1000)), **parameters}


def _parameters(stats: Stats, columns: Columns | None) -> dict[str, str]:
    return {
        "CrawlerSchemaDeserializerVersion": "1.0",
        "CrawlerSchemaSerializerVersion": "1.0",
        "averageRecordSize": str(stats.size // stats.records if stats.records else 0),
        "classification": "UNKNOWN" if columns is None else "json",
        "compressionType": "none",
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
        "Compressed": False,
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
            raise LakefeedError(f"{doing}: {detail.get('ErrorCode')}: {detail.get('ErrorMessage')}")
