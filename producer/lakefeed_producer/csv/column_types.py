"""Column types: inferred from a whole file, and checked against a schema.

A column has one type. Its values go into the events as they are written in the file; the type
only decides whether they are JSON numbers, booleans or strings. So no value is altered by parsing
and formatting, and a number is what JSON can represent literally:

- integer: `0`, `-12`, within 64 bits. Not `007`, `+5`, `1_000`.
- number: JSON's number grammar, if a double represents it exactly: parsing it as a double and
  formatting that with the fewest digits gives the same value. So `1.10` and `6.02e23` are numbers;
  `0.1000000000000000055` makes its column a string, as do `.5`, `5.`, `1,5` and infinities.
- boolean: `true` and `false` in any case.
- string: everything else, and a column without any value.

White space is part of a value: ` 5` is a string.

A missing value is null: an empty field, a value that the user declared as null, and, in a column whose other
values are all numbers or booleans, what pandas reads as missing (`NA`, `null`, `NaN` and others), because it
cannot be data there. In a string column it can be, such as Namibia's country code, and is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lakefeed_producer.csv.byte_columns import ByteColumn, Bytes, Part, concat, is_any_of, masked

Column: TypeAlias = Any
"""A `pa.StringArray` without nulls; an empty string is a missing value."""
Flags: TypeAlias = Any
"""A `pa.BooleanArray` without nulls, one flag per value of a column."""

# https://pandas.pydata.org/docs/reference/api/pandas.read_csv.html, na_values. None of them ends in a
# digit, as all numbers do, and none starts with the first letter of a boolean.
DEFAULT_NULLS = (
    *("NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "NULL", "null", "None"),
    *("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
_DEFAULT_NULLS = frozenset(text.encode() for text in DEFAULT_NULLS)
_LONGEST_DEFAULT_NULL = max(map(len, _DEFAULT_NULLS))
_BOOLEANS = (b"true", b"false")
_BOOLEAN = r"^(?:true|false)?$"
_MISSING = f"^(?:{'|'.join(map(re.escape, DEFAULT_NULLS))})?$"
_INTEGER = r"^-?(?:0|[1-9][0-9]{0,18})$"
_NUMBER = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$"
# A double represents numbers of up to this many digits exactly.
_SURELY_EXACT_DIGITS = 15
_SURELY_EXACT = rf"^[^eE]{{0,{_SURELY_EXACT_DIGITS}}}$"
_PROBES = 16
# For fewer values, checking each costs less than the calls for all of them.
_FEW = 300
_ZERO, _NINE, _MINUS, _POINT = map(np.uint8, b"09-.")
_POINTS_SHIFT, _DIGITS_MASK = np.uint8(5), np.uint8(31)
# The bit that makes an ASCII letter lower-case.
_LOWER_CASE_BIT = np.uint8(0x20)


class ColumnType(StrEnum):
    """The type of a column, by its name in a schema file."""

    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    STRING = "string"


def missing(values: ByteColumn, kind: ColumnType, nulls: Sequence[bytes] = ()) -> npt.NDArray[np.bool_]:
    """Flag the values that are null in the events.

    Args:
        values: a column whose values are of the type, or missing.
        kind: the type.
        nulls: values that the user declared as null.
    """
    found: npt.NDArray[np.bool_] = values.lengths == 0
    if kind is not ColumnType.STRING and values.data.size:
        if kind is ColumnType.BOOLEAN:
            first = values.data[np.minimum(values.starts, values.data.size - 1)] | _LOWER_CASE_BIT
            found |= (first != ord("t")) & (first != ord("f"))
        else:
            found |= values.data[values.starts + values.lengths - 1] - _ZERO > _NINE - _ZERO
    return found | is_any_of(values, nulls) if nulls else found


def fitting(values: ByteColumn, kind: ColumnType) -> npt.NDArray[np.bool_]:
    """Flag the values that are of a type; empty values and the default nulls are of every type."""
    if len(values) <= _FEW:
        fit = _FIT[kind]
        flags = (not value or value in _DEFAULT_NULLS or fit(value) for value in values.to_list())
        return np.fromiter(flags, np.bool_, len(values))
    found: npt.NDArray[np.bool_] = fits(values.arrow(), kind).to_numpy(zero_copy_only=False)
    return found


def fits(values: Column, kind: ColumnType) -> Flags:
    """As `fitting`, for many values at once."""
    # It takes a sixth of a second to import, and most files do not need it.
    import pyarrow.compute

    # The stubs of pyarrow accept only some of what its functions do.
    pc: Any = pyarrow.compute
    if kind is ColumnType.STRING:
        return _flags([True] * len(values))
    if kind is ColumnType.BOOLEAN:
        # A case-insensitive regex would also match the long s (U+017F) as an `s`.
        is_boolean = pc.match_substring_regex(pc.ascii_lower(values), _BOOLEAN)
        return pc.or_(pc.match_substring_regex(values, _MISSING), is_boolean)
    check = _is_integer if kind is ColumnType.INTEGER else _is_number
    return pc.or_(pc.match_substring_regex(values, _MISSING), check(values))


def _flags(values: Sequence[bool]) -> Flags:
    # `pa.array` and `pa.scalar` import pandas, which takes a second.
    import pyarrow as pa

    bits = np.packbits(np.array(values, np.bool_), bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits.data)])


def surely_fit(
    values: ByteColumn, kind: ColumnType, nulls: Sequence[bytes] = (), tally: Tally | None = None
) -> bool:
    """Whether all values are of a type or null, by a fast check; if False, `fitting` decides.

    `tally` is of their buffer, if there is one already.
    """
    if kind is ColumnType.STRING:
        return True
    filled = values.take(values.lengths > 0)
    if nulls:
        filled = filled.take(~is_any_of(filled, nulls))
    if kind is ColumnType.BOOLEAN:
        return not len(filled) or _are_booleans(filled)
    tally = tally or Tally(filled.data)
    if len(filled) and kind in _plain_numbers(filled, tally):
        return True
    filled = filled.take(~_are_default_nulls(filled))
    return not len(filled) or kind in _plain_numbers(filled, tally)


def _is_integer(values: Column) -> Flags:
    """Flag canonical integers: those that survive a round trip through a 64-bit integer."""
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
    # An exponent can exceed the range of a double however short the value is.
    unconfirmed = pc.and_(shaped, pc.invert(pc.match_substring_regex(values, _SURELY_EXACT)))
    if not pc.any(unconfirmed).as_py():
        return shaped
    texts = pc.filter(values, unconfirmed)
    exact = pc.equal(pc.cast(pc.cast(texts, pa.float64()), pa.string()), texts)
    if not pc.all(exact).as_py():
        exact = _flags(
            [same or _is_exact(text) for same, text in zip(exact.to_pylist(), texts.to_pylist(), strict=True)]
        )
    return pc.replace_with_mask(shaped, unconfirmed, exact)


def _is_exact(text: str | bytes) -> bool:
    value = float(text)
    if len(text) <= _SURELY_EXACT_DIGITS and 1e-300 < abs(value) < 1e300:
        return True
    exact = Decimal(text if isinstance(text, str) else text.decode())
    return abs(value) != float("inf") and Decimal(repr(value)) == exact


_INTEGER_SHAPE, _NUMBER_SHAPE = re.compile(_INTEGER[1:-1].encode()), re.compile(_NUMBER[1:-1].encode())
_FIT: dict[ColumnType, Callable[[bytes], bool]] = {
    ColumnType.INTEGER: lambda value: (
        _INTEGER_SHAPE.fullmatch(value) is not None and value != b"-0" and -(2**63) <= int(value) < 2**63
    ),
    ColumnType.NUMBER: lambda value: _NUMBER_SHAPE.fullmatch(value) is not None and _is_exact(value),
    ColumnType.BOOLEAN: lambda value: value.lower() in _BOOLEANS,
    ColumnType.STRING: lambda _: True,
}
"""Whether a single value that is not missing is of a type."""


class TypeFinder:
    """Infers the narrowest type that all values of a column have, block by block.

    Args:
        nulls: values that are null whatever the column's type.
    """

    def __init__(self, nulls: Sequence[bytes] = ()) -> None:
        self._nulls = nulls
        self._possible = [ColumnType.INTEGER, ColumnType.NUMBER, ColumnType.BOOLEAN]
        self._seen = False

    @property
    def settled(self) -> bool:
        """Whether the column is a string whatever follows."""
        return not self._possible

    def feed(self, values: ByteColumn, tally: Tally | None = None) -> None:
        """Take the next values of the column into account.

        Args:
            values: the values.
            tally: of their buffer, if there is one already.
        """
        values = values.take(values.lengths > 0)
        if self._nulls:
            values = values.take(~is_any_of(values, self._nulls))
        if len(values) <= _FEW:
            self._narrow(values.to_list())
            return
        # The first value identifies most string columns.
        if not self._could_be(values, 1):
            return
        tally = tally or Tally(values.data)
        kinds = _plain_numbers(values, tally)
        if not kinds:
            # A few more identify almost all others, at less cost than checking all values.
            if not self._could_be(values, _PROBES):
                return
            values = values.take(~_are_default_nulls(values))
            if not len(values):
                return
            kinds = _plain_numbers(values, tally)
        self._seen = True
        if kinds:
            self._possible = [kind for kind in self._possible if kind in kinds]
        elif self._possible != [ColumnType.BOOLEAN] or not _are_booleans(values):
            self._possible = [kind for kind in self._possible if fitting(values, kind).all()]

    def _narrow(self, values: Sequence[bytes]) -> None:
        """Drop the types that one of the values is not of."""
        present = [value for value in values if value not in _DEFAULT_NULLS]
        self._possible = [kind for kind in self._possible if all(map(_FIT[kind], present))]
        self._seen = self._seen or bool(present)

    def _could_be(self, values: ByteColumn, probes: int) -> bool:
        """Whether a sample of the values leaves any type but string."""
        sample = values.take(slice(None, None, -(-len(values) // probes))).to_list()
        self._narrow(sample)
        return not self.settled

    def result(self) -> ColumnType:
        """The narrowest type of all values so far."""
        return self._possible[0] if self._possible and self._seen else ColumnType.STRING


def _are_default_nulls(values: ByteColumn) -> npt.NDArray[np.bool_]:
    """Flag the default nulls; no value is empty."""
    found = np.zeros(len(values), np.bool_)
    # None ends in a digit.
    last = values.data[values.starts + values.lengths - 1]
    possible = np.flatnonzero((values.lengths <= _LONGEST_DEFAULT_NULL) & (last - _ZERO > _NINE - _ZERO))
    if len(possible) <= _FEW:
        found[possible] = [value in _DEFAULT_NULLS for value in values.take(possible).to_list()]
    else:
        found[possible] = is_any_of(values.take(possible), tuple(_DEFAULT_NULLS))
    return found


def boolean_literals(values: ByteColumn) -> list[Part]:
    """Booleans as JSON literals; empty where a value is missing."""
    return [masked(literal, values.lengths == len(literal)) for literal in _BOOLEANS]


def _are_booleans(values: ByteColumn) -> bool:
    """Whether all values are `true` or `false` in any case, and none is missing."""
    if len(values) <= _FEW:
        return all(value.lower() in _BOOLEANS for value in values.to_list())
    # A value of another length has no literal, so the results differ in size.
    found, _ = concat([values], len(values))
    literals, _ = concat(boolean_literals(values), len(values))
    return np.array_equal(found | _LOWER_CASE_BIT, literals)


class Tally:
    """Running counts of digits and points in a buffer, shared by all columns.

    Both counts are in one byte, points in its upper three bits. Overflow does not affect differences: within
    31 bytes the count of digits is exact, and that of points is modulo 8. So their sum never equals the
    number of bytes if there are any other bytes.
    """

    def __init__(self, data: Bytes) -> None:
        self.data = data
        self._before = np.zeros(data.size + 1, np.uint8)
        weights = (data == _POINT).view(np.uint8) << _POINTS_SHIFT
        weights |= (data - _ZERO <= _NINE - _ZERO).view(np.uint8)
        np.cumsum(weights, dtype=np.uint8, out=self._before[1:])

    def digits_and_points(self, values: ByteColumn) -> tuple[Bytes, Bytes]:
        """The counts of each value; the values are in this buffer and have fewer than 32 bytes."""
        both = self._before[values.starts + values.lengths] - self._before[values.starts]
        return both & _DIGITS_MASK, both >> _POINTS_SHIFT


def _plain_numbers(values: ByteColumn, tally: Tally) -> Sequence[ColumnType]:
    """The types of values that are all short numbers without an exponent: the common case, checked fast.

    Empty if the values need a closer check.
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
    # A leading zero is allowed only directly before the point.
    with_zero = np.flatnonzero((first == _ZERO) & (ends - begins > 1))
    if (data[begins[with_zero] + 1] != _POINT).any():
        return ()
    minus_zero = (first == _ZERO) & (begins > starts) & (ends - begins == 1)
    if points.any() or minus_zero.any():
        return (ColumnType.NUMBER,)
    return ColumnType.INTEGER, ColumnType.NUMBER


def schema_columns(
    schema: dict[str, ColumnType], header: Sequence[str], names: Sequence[str]
) -> tuple[dict[int, ColumnType], list[str]]:
    """Match a schema to a header: the given types by column index, and the names that match no column.

    A column can be named as in the file or as in the events.
    """
    by_name = {name: index for index, name in enumerate(names)}
    by_name |= {name: index for index, name in reversed(list(enumerate(header)))}
    given = {by_name[name]: kind for name, kind in schema.items() if name in by_name}
    return given, [name for name in schema if name not in by_name]
