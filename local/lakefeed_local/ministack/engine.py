"""Athena's engine reads tables of JSON by the catalogue.

How a table becomes a relation of DuckDB is decided inside MiniStack's engine, where no protocol passes. This
is the only module that replaces a function of MiniStack and reads its catalogue directly. Both belong to one
version of MiniStack; any other is refused.
"""

from __future__ import annotations

import inspect
from importlib.metadata import version
from typing import Any

from ministack.services import athena, glue

from lakefeed_local.ministack import tables

VERSION = "1.5.33"


class UnknownVersionError(Exception):
    """This MiniStack is not the one that the engine was adapted to."""


def install() -> None:
    """Make MiniStack's Athena read tables of JSON by the catalogue.

    Raises:
        UnknownVersionError: this MiniStack is another version, or its engine has another shape.
    """
    found = version("ministack")
    if found != VERSION:
        raise UnknownVersionError(f"The local AWS needs MiniStack {VERSION}, found {found}")
    original = getattr(athena, "_table_relation", None)
    if (
        original is None
        or list(inspect.signature(original).parameters) != ["table_data", "files"]
        or not hasattr(glue, "_partitions")
    ):
        raise UnknownVersionError(
            f"This MiniStack lacks athena._table_relation(table_data, files) or glue._partitions of {VERSION}"
        )

    def relation(table_data: dict[str, Any], files: list[str]) -> str:
        if not tables.is_json(table_data):
            return str(original(table_data, files))
        partitions = glue._partitions.get(f"{table_data['DatabaseName']}/{table_data['Name']}") or []
        return tables.relation(table_data, files, partitions)

    athena._table_relation = relation
