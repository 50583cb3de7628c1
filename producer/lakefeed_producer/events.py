"""Turns rows into the bytes of events: one JSON object a row."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from lakefeed_common.errors import LakefeedError
from lakefeed_producer.columns import ColumnType, missing, truths
from lakefeed_producer.records import Block
from lakefeed_producer.texts import Bytes, Joined, Numbers, Part, Texts, joined, sometimes

_QUOTE, _BACKSLASH, _SPACE = map(np.uint8, b'"\\ ')


def read_columns(block: Block, good: npt.NDArray[np.bool_], columns: int, delimiter: str) -> list[Texts]:
    """The fields of the good records, column by column, as texts in the same bytes.

    The good records have `columns` fields each and are valid UTF-8 without NUL bytes.
    """
    starts, ends = block.starts, block.ends
    first, last = np.searchsorted(block.delimiters, (starts[0], ends[-1]))
    delimiters = block.delimiters[first:last]
    if not good.all():
        delimiters = delimiters[np.repeat(good, np.maximum(block.fields - 1, 0))]
        starts, ends = starts[good], ends[good]
    # A column's places side by side, as all that follows goes column by column.
    between = np.ascontiguousarray(delimiters.reshape(len(starts), columns - 1).T)
    begins = np.vstack((starts, between + 1))
    lengths = np.vstack((between, ends))
    lengths -= begins
    data = np.frombuffer(block.data, np.uint8)
    if block.quoted and block.contains(b'"'):
        data = _unquote(data, begins, lengths, delimiter)
    return [Texts(data, begin, length) for begin, length in zip(begins, lengths, strict=True)]


def _unquote(data: Bytes, begins: Numbers, lengths: Numbers, delimiter: str) -> Bytes:
    """Take the quotes off the fields that begin with one, by column and row, in place.

    Returns:
        The bytes in which the fields are: the same ones, and behind them what had quotes inside.
    """
    quoted = (lengths > 0) & (data[np.minimum(begins, data.size - 1)] == _QUOTE)
    begins += quoted
    lengths -= 2 * quoted
    doubled = quoted & (_counts(data == _QUOTE, begins, lengths) > 0)
    if not doubled.any():
        return data
    raw = Texts(data, begins[doubled] - 1, lengths[doubled] + 2)
    plain = _read_quoted(raw, delimiter)
    begins[doubled] = plain.starts + data.size
    lengths[doubled] = plain.lengths
    return np.concatenate((data, plain.data))


def _counts(flags: npt.NDArray[np.bool_], begins: Numbers, lengths: Numbers) -> Numbers:
    """How many of the flags are set in each field."""
    before = _set_before(flags)
    counts: Numbers = before[begins + lengths] - before[begins]
    return counts


def _set_before(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """How many flags are set before each place, and before the end."""
    before = np.zeros(flags.size + 1, np.int32)
    np.cumsum(flags, out=before[1:])
    return before


def _read_quoted(fields: Texts, delimiter: str) -> Texts:
    """The values of fields in quotes."""
    # They take a second to import, and many files have no quotes inside quotes.
    import pandas as pd
    import pyarrow as pa

    frame = pd.read_csv(
        io.BytesIO(joined([fields, b"\n"], len(fields))[0].tobytes()),
        sep=delimiter,
        header=None,
        names=[0],
        index_col=False,
        dtype=pd.ArrowDtype(pa.string()),
        na_filter=False,
        skip_blank_lines=False,
        low_memory=False,
        engine="c",
    )
    if len(frame) != len(fields):
        raise LakefeedError(f"pandas found {len(frame)} values in {len(fields)} quoted fields")
    array: Any = pa.array(frame[0], type=pa.string())
    return Texts.of_arrow(array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array)


class Encoder:
    """Encodes the rows of one file.

    Args:
        names: the keys of the events, in order.
        types: the type of each column.
        nulls: texts that are missing values in each column.
    """

    def __init__(
        self, names: Sequence[str], types: Sequence[ColumnType], nulls: Sequence[bytes] = ()
    ) -> None:
        self._nulls = nulls
        self._types = list(types)
        keys = [orjson.dumps(name) for name in names]
        self._fragments = [(b"," if index else b"{") + key + b":" for index, key in enumerate(keys)]

    def encode(self, columns: Sequence[Texts], *, plain: bool) -> Joined:
        """One JSON object for each row, keys in the columns' order.

        Args:
            columns: the values, all in the same bytes.
            plain: whether no value has a character that JSON wants escaped.
        """
        parts: list[Part] = []
        strings = [index for index, kind in enumerate(self._types) if kind is ColumnType.STRING]
        escaped = {} if plain else _escaped({index: columns[index] for index in strings})
        for index, (fragment, kind, values) in enumerate(
            zip(self._fragments, self._types, columns, strict=True)
        ):
            absent = missing(values, kind, self._nulls)
            parts += [fragment, *_json_values(escaped.get(index, values), kind, absent)]
        return Joined([*parts, b"}"], len(columns[0]))


def _json_values(values: Texts, kind: ColumnType, nulls: npt.NDArray[np.bool_]) -> list[Part]:
    """A column's values as JSON texts. Numbers stay as they are written in the file."""
    some = bool(nulls.any())
    if some:
        values = values.where(~nulls)
    if kind is ColumnType.STRING:
        if not some:
            return [b'"', values, b'"']
        quotes = sometimes(b'"', ~nulls)
        return [quotes, values, quotes, sometimes(b"null", nulls)]
    null = [sometimes(b"null", nulls)] if some else []
    return [*(truths(values) if kind is ColumnType.BOOLEAN else [values]), *null]


def _escaped(columns: Mapping[int, Texts]) -> dict[int, Texts]:
    """Those of some columns in the same bytes that have values which JSON escapes, with these escaped."""
    if not columns:
        return {}
    data = next(iter(columns.values())).data
    before = _set_before((data == _QUOTE) | (data == _BACKSLASH) | (data < _SPACE))
    found: dict[int, npt.NDArray[np.bool_]] = {}
    for index, values in columns.items():
        flags = before[values.starts + values.lengths] != before[values.starts]
        if flags.any():
            found[index] = flags
    if not found:
        return {}
    places = [columns[index].take(flags) for index, flags in found.items()]
    starts = np.concatenate([one.starts for one in places])
    lengths = np.concatenate([one.lengths for one in places])
    texts = Joined([Texts(data, starts, lengths)], len(starts)).to_list()
    written = Texts.of([orjson.dumps(text.decode())[1:-1] for text in texts])
    together = np.concatenate((data, written.data))
    escaped = {}
    first = 0
    for index, flags in found.items():
        starts, lengths = columns[index].starts.copy(), columns[index].lengths.copy()
        some = slice(first, first := first + int(flags.sum()))
        starts[flags], lengths[flags] = written.starts[some] + data.size, written.lengths[some]
        escaped[index] = Texts(together, starts, lengths)
    return escaped
