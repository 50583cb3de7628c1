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

from lakefeed_common.errors import RefusedError
from lakefeed_local.ministack import iceberg, statements, tables, views
from lakefeed_local.ministack.duck import Answer, Duck
from lakefeed_local.ministack.sql import quoted
from lakefeed_local.ministack.statements import UnsupportedError

VERSION = "1.5.33"
_NO_ROWS: dict[str, Any] = {"columns": [], "column_types": [], "rows": []}
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
_CATALOGUE = ("_tables", "_partitions", "_create_table", "_update_table", "_delete_table")
# A view may read another view; a circle ends here.
_DEEPEST_VIEW = 10


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
    lacking = [f"athena.{name}" for name, parameters in _FUNCTIONS.items() if _parameters(name) != parameters]
    lacking += [f"glue.{name}" for name in _CATALOGUE if not hasattr(glue, name)]
    if lacking:
        raise UnknownVersionError(f"MiniStack lacks {', '.join(lacking)} of {VERSION}")

    async def run(query: str, database: str, catalog: str | None = None) -> dict[str, Any]:
        tokens = statements.single(athena._sql_tokens(query))
        view = views.parse(query, tokens)
        if isinstance(view, views.DropView):
            drop_view(view, database)
            return _NO_ROWS
        if view is None:
            statements.check(tokens, catalog)
            answer = await read(query, database)
            return {"columns": answer.columns, "column_types": answer.types, "rows": answer.rows}
        answer = await read(f"SELECT * FROM ({view.query}) LIMIT 0", database)  # noqa: S608 - DuckDB has no data
        create_view(view, database, dict(zip(answer.columns, answer.types, strict=True)))
        return _NO_ROWS

    async def read(query: str, database: str) -> Answer:
        plan = Plan()
        owner = get_account_id(), get_region()
        try:
            # Not in a thread: the catalogue belongs to the event loop.
            statement = plan.statement(query, database)
            return await asyncio.to_thread(duck.run, statement, owner if plan.iceberg else None)
        finally:
            for folder in plan.folders:
                shutil.rmtree(folder, ignore_errors=True)

    athena._run_duckdb = run


def _parameters(name: str) -> list[str] | None:
    function = getattr(athena, name, None)
    return None if function is None else list(inspect.signature(function).parameters)


def create_view(view: views.CreateView, database: str, columns: dict[str, str]) -> None:
    """Put a view into the catalogue.

    Raises:
        RefusedError: the name is taken by a table, or by a view that is not to be replaced.
    """
    schema = view.database or database
    present = glue._tables.get(f"{schema}/{view.name}")
    if present is not None and not (view.replace and views.is_view(present)):
        raise RefusedError(f"{schema}.{view.name} already exists")
    change = glue._create_table if present is None else glue._update_table
    status, _, body = change({"DatabaseName": schema, "TableInput": view.table(columns)})
    if status >= 300:
        raise RefusedError(f"the view {schema}.{view.name} cannot be kept: {body!r}")


def drop_view(view: views.DropView, database: str) -> None:
    """Remove a view from the catalogue.

    Raises:
        RefusedError: there is no such view.
    """
    schema = view.database or database
    if views.is_view(glue._tables.get(f"{schema}/{view.name}") or {}):
        glue._delete_table({"DatabaseName": schema, "Name": view.name})
    elif not view.if_exists:
        raise RefusedError(f"there is no view {schema}.{view.name}")


class Plan:
    """How DuckDB runs one statement.

    Attributes:
        folders: where copies of objects are, to be removed afterwards.
        iceberg: whether it reads an Iceberg table.
    """

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.iceberg = False

    def statement(self, query: str, database: str, views_left: int = _DEEPEST_VIEW) -> str:
        """The statement with DuckDB's relations in place of the catalogue's tables.

        Raises:
            UnsupportedError: it needs what only Athena has.
        """
        edits: list[tuple[int, int, str]] = []
        with_path = any(token[:2] == ("qname", "$path") for token in athena._sql_tokens(query))
        for reference in athena._table_references(query):
            schema = reference.database or database
            table = glue._tables.get(f"{schema}/{reference.table}")
            if table is None:
                statements.check_metadata_table(reference.table)
                continue
            alias = "" if reference.aliased else f" AS {quoted(reference.table)}"
            if views.is_view(table):
                if not views_left:
                    raise UnsupportedError(f"the view {reference.table} is nested too deeply")
                relation = f"({self.statement(views.query_of(table), schema, views_left - 1)})"
            else:
                relation = self._relation(table, with_path=with_path)
            edit = (reference.start, reference.end, relation + alias)
            edits.append(edit)
            if not reference.aliased:
                edits += athena._qualified_column_prefixes(query, schema, reference.table, edit)
        # From the end, so that positions stay what they are.
        for start, end, text in sorted(set(edits), reverse=True):
            query = query[:start] + text + query[end:]
        return query

    def _relation(self, table: dict[str, Any], *, with_path: bool) -> str:
        if iceberg.is_iceberg(table):
            self.iceberg = True
            return iceberg.relation(table)
        location = (table.get("StorageDescriptor") or {}).get("Location")
        files = athena._materialize_table_files(location, self.folders) if location else []
        if tables.is_json(table):
            partitions = glue._partitions.get(f"{table['DatabaseName']}/{table['Name']}") or []
            return tables.relation(table, files, partitions, with_path=with_path)
        return str(athena._table_relation(table, files) if files else athena._empty_relation(table))
