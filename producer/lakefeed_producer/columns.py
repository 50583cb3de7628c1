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

White space belongs to a value: ` 5` is a string.

A missing value is null. It is an empty field, a text that the user has named, and in a column whose other
values are all numbers or booleans each text that pandas takes for one (`NA`, `null`, `NaN` and others): it
cannot be data there. In a string column it can, such as Namibia's country code, and stays what it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lakefeed_producer.texts import Bytes, Part, Texts, any_of, joined, sometimes

Column: TypeAlias = Any
"""A `pa.StringArray` without nulls, the texts of one column; the empty text is a missing value."""
Flags: TypeAlias = Any
"""A `pa.BooleanArray` without nulls, one for each value of a column."""

# https://pandas.pydata.org/docs/reference/api/pandas.read_csv.html, na_values. No number ends as one of them
# does, in a digit, and no boolean has its first letter.
DEFAULT_NULLS = (
    *("NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "NULL", "null", "None"),
    *("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
_DEFAULT_NULLS = tuple(text.encode() for text in DEFAULT_NULLS)
_LONGEST_DEFAULT_NULL = max(map(len, _DEFAULT_NULLS))
_TRUTHS = ("true", "false")
_BOOLEAN = r"^(?:true|false)?$"
_MISSING = f"^(?:{'|'.join(map(re.escape, DEFAULT_NULLS))})?$"
_INTEGER = r"^-?(?:0|[1-9][0-9]{0,18})$"
_NUMBER = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$"
# So many digits: a double holds such a number exactly.
_SURELY_EXACT_DIGITS = 15
_SURELY_EXACT = rf"^[^eE]{{0,{_SURELY_EXACT_DIGITS}}}$"
_PROBES = 16
_ZERO, _NINE, _MINUS, _POINT = map(np.uint8, b"09-.")
_POINTS_SHIFT, _DIGITS_MASK = np.uint8(5), np.uint8(31)
# What makes a letter of ASCII a small one.
_SMALL = np.uint8(0x20)


class ColumnType(StrEnum):
    """The type of a column, by its name in a schema file."""

    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    STRING = "string"


def missing(values: Texts, kind: ColumnType, nulls: Sequence[bytes] = ()) -> npt.NDArray[np.bool_]:
    """Which values of a column of a type are null in the events.

    Args:
        values: all of that type, or missing.
        kind: the type.
        nulls: texts that the user has named.
    """
    found: npt.NDArray[np.bool_] = values.lengths == 0
    if kind is not ColumnType.STRING and values.data.size:
        if kind is ColumnType.BOOLEAN:
            first = values.data[np.minimum(values.starts, values.data.size - 1)] | _SMALL
            found |= (first != ord("t")) & (first != ord("f"))
        else:
            found |= values.data[values.starts + values.lengths - 1] - _ZERO > _NINE - _ZERO
    return found | any_of(values, nulls) if nulls else found


def fits(values: Column, kind: ColumnType) -> Flags:
    """Which values are of a type; empty ones and the default nulls are of every type."""
    # It takes a sixth of a second to import, and most files can be published without.
    import pyarrow.compute

    # The stubs of pyarrow know but a part of what its functions take.
    pc: Any = pyarrow.compute
    if kind is ColumnType.STRING:
        return _flags([True] * len(values))
    if kind is ColumnType.BOOLEAN:
        # With case ignored, the regex would take the long s (U+017F) for an `s` too.
        truth = pc.match_substring_regex(pc.ascii_lower(values), _BOOLEAN)
        return pc.or_(pc.match_substring_regex(values, _MISSING), truth)
    check = _is_integer if kind is ColumnType.INTEGER else _is_number
    return pc.or_(pc.match_substring_regex(values, _MISSING), check(values))


def _flags(values: Sequence[bool]) -> Flags:
    # `pa.array` and `pa.scalar` import pandas, which takes a second.
    import pyarrow as pa

    bits = np.packbits(np.array(values, np.bool_), bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits.data)])


def surely_fit(values: Texts, kind: ColumnType, nulls: Sequence[bytes] = ()) -> bool:
    """Whether all values are of a type or one of the nulls, by a quick look; if not, `fits` tells."""
    filled = values.take(values.lengths > 0)
    if nulls:
        filled = filled.take(~any_of(filled, nulls))
    if kind is ColumnType.STRING or not len(filled):
        return True
    if kind is ColumnType.BOOLEAN:
        return _are_truths(filled)
    return kind in _plain_numbers(filled, Tally(filled.data))


def _is_integer(values: Column) -> Flags:
    """Element-wise: canonical integers are those that come back the same from a 64-bit integer."""
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    shaped = pc.match_substring_regex(values, _INTEGER)
    candidates = pc.filter(values, shaped)
    try:
        exact = pc.equal(pc.cast(pc.cast(candidates, pa.int64()), pa.string()), candidates)
    except pa.ArrowInvalid:  # one of them has more than 64 bits
        exact = _flags([-(2**63) <= int(text) < 2**63 and text != "-0" for text in candidates.to_pylist()])
    return pc.replace_with_mask(shaped, shaped, exact)


def _is_number(values: Column) -> Flags:
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    shaped = pc.match_substring_regex(values, _NUMBER)
    # An exponent can leave the range of a double however short the text is.
    doubtful = pc.and_(shaped, pc.invert(pc.match_substring_regex(values, _SURELY_EXACT)))
    if not pc.any(doubtful).as_py():
        return shaped
    texts = pc.filter(values, doubtful)
    exact = pc.equal(pc.cast(pc.cast(texts, pa.float64()), pa.string()), texts)
    if not pc.all(exact).as_py():
        exact = _flags(
            [same or _is_exact(text) for same, text in zip(exact.to_pylist(), texts.to_pylist(), strict=True)]
        )
    return pc.replace_with_mask(shaped, doubtful, exact)


def _fits(value: str, kind: ColumnType) -> bool:
    """What `fits` says of a single value that is not missing."""
    if value in DEFAULT_NULLS:
        return True
    if kind is ColumnType.BOOLEAN:
        return value.lower() in _TRUTHS
    if kind is ColumnType.INTEGER:
        return re.fullmatch(_INTEGER, value) is not None and value != "-0" and -(2**63) <= int(value) < 2**63
    return re.fullmatch(_NUMBER, value) is not None and _is_exact(value)


def _all(flags: Flags) -> bool:
    import pyarrow.compute

    pc: Any = pyarrow.compute
    return bool(pc.all(flags).as_py())


def _is_exact(text: str) -> bool:
    value = float(text)
    return abs(value) != float("inf") and Decimal(repr(value)) == Decimal(text)


class TypeFinder:
    """Finds the narrowest type that all values of a column have, block by block.

    Args:
        nulls: texts that are missing values, whatever the column's type.
    """

    def __init__(self, nulls: Sequence[bytes] = ()) -> None:
        self._nulls = nulls
        self._possible = [ColumnType.INTEGER, ColumnType.NUMBER, ColumnType.BOOLEAN]
        self._seen = False

    @property
    def settled(self) -> bool:
        """Whether the column is a string whatever comes."""
        return not self._possible

    def feed(self, values: Texts, tally: Tally | None = None) -> None:
        """Look at the next values of the column.

        Args:
            values: what to look at.
            tally: of the bytes that they are in, if there is one already.
        """
        values = values.take(values.lengths > 0)
        if self._nulls:
            values = values.take(~any_of(values, self._nulls))
        # Most columns of text are known by their first value.
        if not len(values) or not self._could_be(values, 1):
            return
        tally = tally or Tally(values.data)
        kinds = _plain_numbers(values, tally)
        if not kinds:
            # All others but a few are known by a few more, which costs less than to look at all of them.
            if not self._could_be(values, _PROBES):
                return
            values = values.take(~_are_default_nulls(values))
            if not len(values):
                return
            kinds = _plain_numbers(values, tally)
        self._seen = True
        if kinds:
            self._possible = [kind for kind in self._possible if kind in kinds]
        elif self._possible != [ColumnType.BOOLEAN] or not _are_truths(values):
            array = values.arrow()
            self._possible = [kind for kind in self._possible if _all(fits(array, kind))]

    def _could_be(self, values: Texts, probes: int) -> bool:
        """Whether some of the values leave any type but a string."""
        for at in range(0, len(values), -(-len(values) // probes)):
            if self.settled:
                return False
            value = values[at].decode()
            self._possible = [kind for kind in self._possible if _fits(value, kind)]
        return not self.settled

    def result(self) -> ColumnType:
        """The type of all values so far."""
        return self._possible[0] if self._possible and self._seen else ColumnType.STRING


def _are_default_nulls(values: Texts) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(values), np.bool_)
    short = np.flatnonzero(values.lengths <= _LONGEST_DEFAULT_NULL)
    found[short] = any_of(values.take(short), _DEFAULT_NULLS)
    return found


def truths(values: Texts) -> list[Part]:
    """Booleans as JSON writes them; empty where a value is."""
    return [sometimes(text.encode(), values.lengths == len(text)) for text in _TRUTHS]


def _are_truths(values: Texts) -> bool:
    """Whether all values are `true` or `false` in any case, and none is missing."""
    # A value of another length has no counterpart: then there are fewer bytes.
    written, _ = joined([values], len(values))
    meant, _ = joined(truths(values), len(values))
    return np.array_equal(written | _SMALL, meant)


class Tally:
    """How many digits and points there are in any short run of some bytes: counted once for all columns.

    Both are counted in one byte, points in its upper three bits, and what overflows does not matter to
    differences: of up to 31 bytes the digits are right, and the points are taken modulo 8. So both together
    are never as many as the bytes where other bytes are among them.
    """

    def __init__(self, data: Bytes) -> None:
        self.data = data
        self._before = np.zeros(data.size + 1, np.uint8)
        weights = (data == _POINT).view(np.uint8) << _POINTS_SHIFT
        weights |= (data - _ZERO <= _NINE - _ZERO).view(np.uint8)
        np.cumsum(weights, dtype=np.uint8, out=self._before[1:])

    def digits_and_points(self, values: Texts) -> tuple[Bytes, Bytes]:
        """Those of each text, which is in these bytes and has less than 32 of them."""
        both = self._before[values.starts + values.lengths] - self._before[values.starts]
        return both & _DIGITS_MASK, both >> _POINTS_SHIFT


def _plain_numbers(values: Texts, tally: Tally) -> Sequence[ColumnType]:
    """The types of values that are all numbers of few digits without an exponent: the usual case, and quick.

    None if another look is needed.
    """
    if values.lengths.max() > _SURELY_EXACT_DIGITS + 2:
        return ()
    data, starts, ends = values.data, values.starts, values.starts + values.lengths
    begins = starts + (data[starts] == _MINUS)
    first = data[np.minimum(begins, ends - 1)]
    last = data[ends - 1]
    digits, points = tally.digits_and_points(values)
    is_shaped = (
        (digits + points == ends - begins)
        & (first - _ZERO <= _NINE - _ZERO)
        & (last - _ZERO <= _NINE - _ZERO)
        & (digits <= _SURELY_EXACT_DIGITS)
        & (points <= 1)
    )
    if not is_shaped.all():
        return ()
    # No zero leads, but for one before the point.
    led = np.flatnonzero((first == _ZERO) & (ends - begins > 1))
    if (data[begins[led] + 1] != _POINT).any():
        return ()
    minus_zero = (first == _ZERO) & (begins > starts) & (ends - begins == 1)
    if points.any() or minus_zero.any():
        return (ColumnType.NUMBER,)
    return ColumnType.INTEGER, ColumnType.NUMBER


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
