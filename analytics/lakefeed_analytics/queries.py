"""Named queries: SQL files that can be run by name on any table with the same columns.

A file starts with comment lines: the first one is the title, the others are the description. The SQL queries
the table `"${table}"`, a quoted identifier, so that the file is valid SQL; it is replaced by the quoted name
of a table when the query is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lakefeed_analytics.errors import StatementError
from lakefeed_analytics.statements import quoted, reading
from lakefeed_common.errors import MissingError, SettingsError

_PLACE = '"${table}"'


@dataclass(frozen=True)
class NamedQuery:
    """A named query; `sql` contains the placeholder of the table."""

    name: str
    title: str
    description: str
    sql: str

    def over(self, table: str) -> str:
        """The SQL for a table."""
        return self.sql.replace(_PLACE, quoted(table))

    def is_over_some_table(self, sql: str) -> bool:
        """Whether a statement is this query for any table."""
        table = r'("(?:[^"]|"")*")'
        first, *others = (re.escape(part) for part in self.sql.split(_PLACE))
        return re.fullmatch(first + table + r"\1".join(others), sql) is not None


class NamedQueries:
    """All named queries in a folder, read and checked once."""

    def __init__(self, folder: Path) -> None:
        """Read the folder.

        Raises:
            SettingsError: there are no queries, or one is invalid; names the file.
        """
        files = sorted(folder.glob("*.sql"))
        if not files:
            raise SettingsError(
                f"LAKEFEED_QUERIES_FOLDER={str(folder)!r}: there is no *.sql file. "
                "Set it to the folder of the named queries"
            )
        self._queries = {file.stem: _read(file) for file in files}

    def __iter__(self) -> Iterator[NamedQuery]:
        return iter(self._queries.values())

    def get(self, name: str) -> NamedQuery:
        """Get a query by name. Raises MissingError with the available names."""
        try:
            return self._queries[name]
        except KeyError:
            raise MissingError(
                f"there is no named query {name!r}; available are {', '.join(self._queries)}"
            ) from None


def _read(file: Path) -> NamedQuery:
    try:
        text = file.read_text(encoding="utf-8")
        sql = reading(text)
    except (OSError, UnicodeDecodeError, StatementError) as error:
        raise SettingsError(f"the named query {file}: {error}") from None
    comments: list[str] = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        comments.append(line.removeprefix("--").strip())
    if not comments:
        raise SettingsError(f"the named query {file}: its first line must be a comment with the title")
    if _PLACE not in sql:
        raise SettingsError(f"the named query {file}: it must query the table {_PLACE}")
    return NamedQuery(file.stem, comments[0].rstrip("."), " ".join(comments[1:]), sql)
