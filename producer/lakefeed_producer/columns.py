"""Column types: found over a whole file, and checked against a schema.

A column has one type. Its values go into the events as they are written in the file; the type
only decides whether they are JSON numbers, booleans or strings. So nothing is ever altered by
being read into a binary number and written again, and what counts as a number is what JSON
allows to be written as one:

- integer: `0`, `-12`, within 64 bits. Not `007`, `+5`, `1_000`.
- number: JSON's number grammar, and a double must hold it exactly: reading it as a double and
  writing that with the fewest digits gives the same value. So `1.10` and `6.02e23` are numbers;
  `0.1000000000000000055` makes its column a string, as do `.5`, `5.`, `1,5` and infinities.
- boolean: `true` and `false` in any case.
- string: all else, and a column without any value.

White space belongs to a value: ` 5` is a string. `NaN` and `nan`, pandas' own spelling of a
missing value, are null in a numeric column, and text like any other in a string column.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute

# The stubs of pyarrow know but a part of what its functions take.
pc: Any = pyarrow.compute
Column: TypeAlias = Any
"""A `pa.StringArray` without nulls, the texts of one column; the empty text is a missing value."""
Flags: TypeAlias = Any
"""A `pa.BooleanArray` without nulls, one for each value of a column."""

NOT_A_NUMBER = pa.array(["NaN", "nan"], pa.string())
_NUMBER = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$"
# Fifteen digits, a sign and a point: a double holds such a number exactly.
_SURELY_EXACT_LENGTH = 15
_TRUTHS = pa.array(["true", "false"], pa.string())


class ColumnType(StrEnum):
    """The type of a column, by its name in a schema file."""

    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    STRING = "string"

    @property
    def is_numeric(self) -> bool:
        """Whether `NaN` is a missing value in such a column."""
        return self in (ColumnType.INTEGER, ColumnType.NUMBER)


def fits(values: Column, kind: ColumnType) -> Flags:
    """Which values are of a type; missing ones are of every type."""
    if kind is ColumnType.STRING:
        return pa.array([True] * len(values), pa.bool_())
    missing = pc.equal(values, "")
    if kind is ColumnType.BOOLEAN:
        return pc.or_(missing, pc.is_in(pc.ascii_lower(values), _TRUTHS))
    missing = pc.or_(missing, pc.is_in(values, NOT_A_NUMBER))
    check = _is_integer if kind is ColumnType.INTEGER else _is_number
    return pc.or_(missing, check(values))


def _is_integer(values: Column) -> Flags:
    """Element-wise: canonical integers are those that come back the same from a 64-bit integer."""
    shaped = pc.match_substring_regex(values, r"^-?(?:0|[1-9][0-9]{0,18})$")
    result: list[bool] = pc.fill_null(shaped, False).to_pylist()
    candidates = pc.filter(values, shaped)
    exact = iter([-(2**63) <= int(text) < 2**63 and text != "-0" for text in candidates.to_pylist()])
    return pa.array([flag and next(exact) for flag in result], pa.bool_())


def _is_number(values: Column) -> Flags:
    shaped = pc.match_substring_regex(values, _NUMBER)
    # An exponent can leave the range of a double however short the text is.
    sure = pc.and_(
        pc.less_equal(pc.binary_length(values), _SURELY_EXACT_LENGTH),
        pc.invert(pc.match_substring_regex(values, "[eE]")),
    )
    doubtful = pc.and_(shaped, pc.invert(sure))
    if not pc.any(doubtful).as_py():
        return shaped
    texts = pc.filter(values, doubtful)
    exact = pc.equal(pc.cast(pc.cast(texts, pa.float64()), pa.string()), texts)
    if not pc.all(exact).as_py():
        exact = pa.array(
            [same or _is_exact(text) for same, text in zip(exact.to_pylist(), texts.to_pylist(), strict=True)]
        )
    return pc.replace_with_mask(shaped, doubtful, exact)


def _is_exact(text: str) -> bool:
    value = float(text)
    return abs(value) != float("inf") and Decimal(repr(value)) == Decimal(text)


class TypeFinder:
    """Finds the narrowest type that all values of a column have, block by block."""

    def __init__(self) -> None:
        self._possible = [ColumnType.INTEGER, ColumnType.NUMBER, ColumnType.BOOLEAN]
        self._seen = False

    @property
    def settled(self) -> bool:
        """Whether the column is a string whatever comes."""
        return not self._possible

    def feed(self, values: Column) -> None:
        """Look at the next values of the column."""
        if self.settled or not len(values):
            return
        # Most columns of text are known by their first value.
        self._keep(values.slice(0, 1))
        if self._possible:
            self._keep(values)

    def _keep(self, values: Column) -> None:
        if not (self._possible[0] is ColumnType.INTEGER and _all_integers(values)):
            self._possible = [kind for kind in self._possible if pc.all(fits(values, kind)).as_py()]
        self._seen = self._seen or self._has_value(values)

    def _has_value(self, values: Column) -> bool:
        if not self._possible:
            return True
        filled = pc.invert(pc.or_(pc.equal(values, ""), pc.is_in(values, NOT_A_NUMBER)))
        return bool(pc.any(filled).as_py())

    def result(self) -> ColumnType:
        """The type of all values so far."""
        return self._possible[0] if self._possible and self._seen else ColumnType.STRING


def _all_integers(values: Column) -> bool:
    """Whether all values are integers and none is missing: a quick yes for the usual case."""
    try:
        numbers = pc.cast(values, pa.int64())
    except pa.ArrowInvalid:
        return False
    return bool(pc.all(pc.equal(pc.cast(numbers, pa.string()), values)).as_py())


def schema_columns(
    schema: dict[str, ColumnType], header: Sequence[str], names: Sequence[str]
) -> tuple[dict[int, ColumnType], list[str]]:
    """The given types by column index, and the names in the schema that no column has.

    A column can be named as in the file or as in the events.
    """
    by_name = {name: index for index, name in enumerate(names)}
    by_name |= {name: index for index, name in reversed(list(enumerate(header)))}
    given = {by_name[name]: kind for name, kind in schema.items() if name in by_name}
    return given, [name for name in schema if name not in by_name]
