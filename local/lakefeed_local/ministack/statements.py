"""Which statements the local Athena runs. For all others, MiniStack's SUCCEEDED would be false: they fail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lakefeed_common.errors import LakefeedError

Token = tuple[str, str, int, int]
"""Kind, text, start and end, as MiniStack reads SQL: `name` in lower case, `punct` of one character."""

_READS = ("select", "with", "values", "explain")
_RUN = "SELECT, WITH, VALUES, EXPLAIN, CREATE EXTERNAL TABLE, DROP TABLE, CREATE VIEW and DROP VIEW"
# The second word says what is created, as in CREATE VIEW.
_TWO_WORDS = ("create", "alter", "drop", "show", "describe")


class UnsupportedError(LakefeedError):
    """The local Athena cannot do this; Athena can. The query's state becomes FAILED with this message."""


def single(tokens: Iterable[Token]) -> list[Token]:
    """The tokens of one statement, without a semicolon at its end.

    Raises:
        UnsupportedError: there are several statements.
    """
    found = list(tokens)
    if found and found[-1][:2] == ("punct", ";"):
        found.pop()
    if any(token[:2] == ("punct", ";") for token in found):
        raise UnsupportedError("Only one sql statement is allowed")
    return found


def check(tokens: Sequence[Token], catalog: str | None) -> None:
    """Check that a statement reads, from Glue's catalogue.

    Raises:
        UnsupportedError: it is another one.
    """
    words = [text for kind, text, _, _ in tokens if kind == "name"]
    first = next((text for kind, text, _, _ in tokens if (kind, text) != ("punct", "(")), "")
    if first not in _READS:
        raise UnsupportedError(_refusal(_named(words) or first))
    if catalog and catalog.lower().startswith("s3tablescatalog"):
        raise UnsupportedError("NOT_SUPPORTED: the local Athena reads no S3 table buckets")


def _refusal(what: str) -> str:
    return f"NOT_SUPPORTED: the local Athena does not run {what}; it runs {_RUN}. Run this statement in AWS"


def _named(words: Sequence[str]) -> str:
    shown = words[: 2 if words and words[0] in _TWO_WORDS else 1]
    # A CTAS is more than the CREATE TABLE that it begins with.
    as_select = words[:2] == ["create", "table"] and "select" in words
    return " ".join(shown).upper() + (" AS SELECT" if as_select else "")


def check_metadata_table(name: str) -> None:
    """Check a name that the catalogue does not have.

    Raises:
        UnsupportedError: it is a metadata table, such as `prices$partitions`.
    """
    _, dollar, kind = name.partition("$")
    if dollar and kind:
        raise UnsupportedError(
            f"NOT_SUPPORTED: the local Athena has no metadata tables such as {name}. Query it in AWS"
        )
