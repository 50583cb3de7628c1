"""Views: kept in the catalogue as Athena keeps them, and read as the query that they are."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lakefeed_local.ministack.statements import Token, UnsupportedError

_START, _END = "/* Presto View: ", " */"
_KIND = "VIRTUAL_VIEW"
_NAMES = ("name", "qname")


@dataclass(frozen=True)
class CreateView:
    """`CREATE [OR REPLACE] VIEW name AS query`; `database` is None if the name has none."""

    database: str | None
    name: str
    query: str
    replace: bool

    def table(self, columns: dict[str, str]) -> dict[str, Any]:
        """Glue's TableInput.

        Args:
            columns: names and Athena's types of what the query returns.
        """
        shown = [{"name": name, "type": kind} for name, kind in columns.items()]
        view = json.dumps({"originalSql": self.query, "catalog": "awsdatacatalog", "columns": shown})
        kinds = {name: "string" if kind == "varchar" else kind for name, kind in columns.items()}
        return {
            "Name": self.name,
            "TableType": _KIND,
            "Parameters": {"presto_view": "true", "comment": "Presto View"},
            "StorageDescriptor": {
                "Columns": [{"Name": name, "Type": kind} for name, kind in kinds.items()],
                "Location": "",
            },
            "PartitionKeys": [],
            "ViewOriginalText": f"{_START}{b64encode(view.encode()).decode()}{_END}",
            "ViewExpandedText": "/* Presto View */",
        }


@dataclass(frozen=True)
class DropView:
    """`DROP VIEW [IF EXISTS] name`."""

    database: str | None
    name: str
    if_exists: bool


def parse(query: str, tokens: Sequence[Token]) -> CreateView | DropView | None:
    """The statement about a view that this is; None for any other statement.

    Raises:
        UnsupportedError: it has more than the local Athena knows.
    """
    for words, made in {
        ("create", "view"): CreateView,
        ("create", "or", "replace", "view"): CreateView,
        ("drop", "view"): DropView,
        ("drop", "view", "if", "exists"): DropView,
    }.items():
        after = list(tokens[len(words) :])
        if (
            tuple(token[1] for token in tokens[: len(words)]) != words
            or after[:1] == []
            or _conditional(after)
        ):
            continue
        database, name, rest = _name(after)
        if made is DropView and not rest:
            return DropView(database, name, "exists" in words)
        if made is CreateView and rest and rest[0][:2] == ("name", "as") and rest[1:]:
            return CreateView(database, name, query[rest[1][2] : rest[-1][3]], "replace" in words)
        shown = " ".join(words).upper()
        raise UnsupportedError(f"NOT_SUPPORTED: the local Athena knows {shown} with a name, AS and a query")
    return None


def _conditional(after: Sequence[Token]) -> bool:
    return tuple(token[1] for token in after[:2]) == ("if", "exists")


def _name(tokens: Sequence[Token]) -> tuple[str | None, str, Sequence[Token]]:
    """Database, name, and the tokens behind them."""
    first, rest = tokens[0], tokens[1:]
    if len(rest) > 1 and rest[0][:2] == ("punct", ".") and rest[1][0] in _NAMES:
        return first[1].lower(), rest[1][1].lower(), rest[2:]
    return None, first[1].lower(), rest


def is_view(table: dict[str, Any]) -> bool:
    """Whether a table of the catalogue is a view."""
    return bool(table.get("TableType") == _KIND)


def query_of(table: dict[str, Any]) -> str:
    """The query of a view.

    Raises:
        UnsupportedError: it is a view of another engine.
    """
    text = str(table.get("ViewOriginalText") or "")
    if not text.startswith(_START):
        raise UnsupportedError(f"NOT_SUPPORTED: {table.get('Name')} is a view of another engine than Athena")
    view = json.loads(b64decode(text.removeprefix(_START).removesuffix(_END)))
    return str(view["originalSql"])
