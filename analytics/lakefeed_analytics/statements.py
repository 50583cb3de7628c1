"""Accepts only read-only statements.

A statement is checked and sent in the same form: without comments. Otherwise a comment that this module and
Athena parse differently (Trino's do not nest) could hide a statement from one of them. Statements that cannot
be parsed are refused.
"""

from __future__ import annotations

import logging
import re

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError

from lakefeed_analytics.errors import StatementError

# sqlglot logs a warning with the whole statement if it parses one as a bare command; we refuse those.
logging.getLogger("sqlglot").setLevel(logging.ERROR)

# https://docs.aws.amazon.com/athena/latest/APIReference/API_StartQueryExecution.html
_MAX_BYTES = 262_144
_ACCEPTED = "SELECT, WITH, VALUES, TABLE, SHOW, DESCRIBE and EXPLAIN"

_PIECE = re.compile(
    r"""
    (?P<quoted> '(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*` )
  | (?P<comment> --[^\r\n]* | /\*.*?\*/ )
  | (?P<open> ['"`] | /\* )
  | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_EXPLAIN = re.compile(
    r"EXPLAIN\s+(?P<analyze>ANALYZE\s+)?(?:VERBOSE\s+)?(?:\(\s*(?:TYPE|FORMAT)\s[\w\s,]*\)\s*)?",
    re.IGNORECASE,
)
# Hive's parser handles these, with other quoting rules: only unambiguous ones are accepted.
_UTILITY = re.compile(r"(?:SHOW|DESCRIBE|DESC)\s[\w\s.,:=()|*$@\"'`-]+", re.IGNORECASE)
_WRITES = (exp.DML, exp.DDL, exp.Command, exp.Into, exp.Lock, exp.MultitableInserts)


def reading(sql: str) -> str:
    """The statement to send to Athena: a single, read-only one, without comments and `;`.

    Raises:
        StatementError: the reason, with the position of syntax errors.
    """
    try:
        size = len(sql.encode())
    except UnicodeEncodeError:
        raise StatementError("the statement is not UTF-8") from None
    if size > _MAX_BYTES:
        raise StatementError(f"the statement is longer than Athena's limit of {_MAX_BYTES} bytes")
    statement = _without_comments(sql)
    if not statement:
        raise StatementError(f"there is no statement; accepted are {_ACCEPTED}")
    if _UTILITY.fullmatch(statement):
        return statement
    explain = _EXPLAIN.match(statement)
    _check_query(statement[explain.end() :] if explain else statement)
    return statement


def quoted(name: str) -> str:
    """A name as a quoted identifier in Athena's SQL."""
    return '"' + name.replace('"', '""') + '"'


def sample(table: str, rows: int) -> str:
    """The statement that reads some rows of a table."""
    return f"SELECT * FROM {quoted(table)} LIMIT {rows:d}"  # noqa: S608 - quoted, and a number


def _without_comments(sql: str) -> str:
    pieces: list[str] = []
    outside: list[str] = []
    for match in _PIECE.finditer(sql):
        text = match.group()
        match match.lastgroup:
            case "open":
                line = sql.count("\n", 0, match.start()) + 1
                raise StatementError(f"line {line}: the {text} is never closed")
            case "comment":
                # Line breaks are kept, for the positions in messages.
                pieces.append("\n" * text.count("\n") or " ")
            case "quoted":
                pieces.append(text)
            case _:
                pieces.append(text)
                outside.append(text)
    bare = "".join(outside).rstrip().removesuffix(";")
    if ";" in bare:
        raise StatementError("only one statement at a time; there is a `;` in the middle")
    if "{#" in bare or any(ord(char) < 32 and not char.isspace() for char in bare):
        raise StatementError("there are characters outside quotes that are not valid in SQL")
    return "".join(pieces).strip().removesuffix(";").strip()


def _check_query(statement: str) -> None:
    try:
        parsed = sqlglot.parse(statement, dialect="athena")
        if len(parsed) != 1 or parsed[0] is None:
            raise StatementError("exactly one statement is required")
        _check_tree(parsed[0])
    except ParseError as error:
        where = error.errors[0] if error.errors else {}
        raise StatementError(
            f"line {where.get('line')}, column {where.get('col')}: not valid SQL for Athena: "
            f"{_described(where.get('description'))}"
        ) from None
    except RecursionError:
        raise StatementError("the statement is nested too deeply") from None
    except StatementError:
        raise
    except Exception:
        # Arbitrary input can make the parser fail in any way; what cannot be parsed is refused.
        raise StatementError("not valid SQL for Athena") from None


def _described(problem: str | None) -> str:
    """The parser's description of a problem, without the names of its classes."""
    if problem is None or problem.startswith("Required keyword"):
        return "something is missing here"
    return problem.partition(" but got <")[0]


def _check_tree(root: exp.Expr) -> None:
    if not isinstance(root, exp.Query | exp.Values):
        what = "not a statement" if isinstance(root, exp.Condition | exp.Alias) else _kind(root)
        raise StatementError(f"only read-only statements are accepted: {_ACCEPTED}; this is {what}")
    for node in root.walk():
        if isinstance(node, _WRITES):
            raise StatementError(f"only read-only statements are accepted; this contains {_kind(node)}")
        if isinstance(node, exp.CTE) and not isinstance(node.this, exp.Query | exp.Values):
            raise StatementError(f"only read-only statements are accepted; this contains {_kind(node.this)}")
        # A table function can pass any statement to another system.
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Func):
            raise StatementError(
                f"table functions are not accepted, other than UNNEST: {node.this.sql()[:80]}"
            )


def _kind(node: exp.Expr) -> str:
    name = str(node.this) if isinstance(node, exp.Command) else node.key
    return name.upper()
