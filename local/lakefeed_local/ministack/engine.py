"""Athena's engine: reads the tables of the catalogue as Athena does, and refuses what it cannot do.

MiniStack hands a statement to DuckDB inside of its engine, where no protocol passes. This is the only module
that replaces a function of MiniStack and uses its private ones, which belong to one version of MiniStack; any
other is refused.
"""

from __future__ import annotations

import asyncio
import inspect
import shutil
from importlib.metadata import version
from typing import Any

from ministack.core.responses import get_account_id, get_region
from ministack.services import athena, glue

from lakefeed_local.ministack import iceberg, statements, tables
from lakefeed_local.ministack.duck import Duck
from lakefeed_local.ministack.sql import quoted

VERSION = "1.5.33"
# The functions that are used or replaced, with their parameters.
_FUNCTIONS = {
    "_run_duckdb": ["query", "database", "catalog"],
    "_table_references": ["query"],
    "_sql_tokens": ["sql"],
    "_materialize_table_files": ["location", "workdirs"],
    "_table_relation": ["table_data", "files"],
    "_empty_relation": ["table_data"],
    "_qualified_column_prefixes": ["query", "database", "table", "table_edit"],
}


class UnknownVersionError(Exception):
    """This MiniStack is not the one that the engine was adapted to."""


def install(duck: Duck) -> None:
    """Make MiniStack's Athena read tables by the catalogue.

    Args:
        duck: runs the statements.

    Raises:
        UnknownVersionError: this MiniStack is another version, or its engine has another shape.
    """
    found = version("ministack")
    if found != VERSION:
        raise UnknownVersionError(f"The local AWS needs MiniStack {VERSION}, found {found}")
    lacking = [name for name, parameters in _FUNCTIONS.items() if _parameters(name) != parameters]
    lacking += [name for name in ("_tables", "_partitions") if not hasattr(glue, name)]
    if lacking:
        raise UnknownVersionError(f"This MiniStack lacks {', '.join(lacking)} of {VERSION}")

    async def run(query: str, database: str, catalog: str | None = None) -> dict[str, Any]:
        statements.check(athena._sql_tokens(query), catalog)
        plan = Plan()
        owner = get_account_id(), get_region()
        try:
            # Not in a thread: the catalogue belongs to the event loop.
            statement = plan.statement(query, database)
            answer = await asyncio.to_thread(duck.run, statement, owner if plan.iceberg else None)
        finally:
            for folder in plan.folders:
                shutil.rmtree(folder, ignore_errors=True)
        return {"columns": answer.columns, "column_types": answer.types, "rows": answer.rows}

    athena._run_duckdb = run


def _parameters(name: str) -> list[str] | None:
    function = getattr(athena, name, None)
    return None if function is None else list(inspect.signature(function).parameters)


class Plan:
    """How DuckDB runs one statement.

    Attributes:
        folders: where copies of objects are, to be removed afterwards.
        iceberg: whether it reads an Iceberg table.
    """

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.iceberg = False

    def statement(self, query: str, database: str) -> str:
        """The statement with DuckDB's relations in place of the catalogue's tables.

        Raises:
            UnsupportedError: it needs what only Athena has.
        """
        edits: list[tuple[int, int, str]] = []
        for reference in athena._table_references(query):
            schema = reference.database or database
            table = glue._tables.get(f"{schema}/{reference.table}")
            if table is None:
                statements.check_metadata_table(reference.table)
                continue
            alias = "" if reference.aliased else f" AS {quoted(reference.table)}"
            edit = (reference.start, reference.end, self._relation(table) + alias)
            edits.append(edit)
            if not reference.aliased:
                edits += athena._qualified_column_prefixes(query, schema, reference.table, edit)
        # From the end, so that positions stay what they are.
        for start, end, text in sorted(set(edits), reverse=True):
            query = query[:start] + text + query[end:]
        return query

    def _relation(self, table: dict[str, Any]) -> str:
        if iceberg.is_iceberg(table):
            self.iceberg = True
            return iceberg.relation(table)
        location = (table.get("StorageDescriptor") or {}).get("Location")
        files = athena._materialize_table_files(location, self.folders) if location else []
        if tables.is_json(table):
            partitions = glue._partitions.get(f"{table['DatabaseName']}/{table['Name']}") or []
            return tables.relation(table, files, partitions)
        return str(athena._table_relation(table, files) if files else athena._empty_relation(table))
