"""Turns rows into the bytes of events: one JSON object a row."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from lakefeed_common.errors import LakefeedError
from lakefeed_producer.columns import ColumnType, missing, truths
from lakefeed_producer.records import Block
from lakefeed_producer.texts import Joined, Part, Texts, sometimes

_TO_ESCAPE = r'["\\\x00-\x1f]'
_BOM = b"\xef\xbb\xbf"


def read_columns(block: Block, good: npt.NDArray[np.bool_], columns: int, delimiter: str) -> list[Texts]:
    """The fields of the good records, column by column, as texts.

    The good records have `columns` fields each and are valid UTF-8 without NUL bytes.
    """
    if block.quoted and block.contains(b'"'):
        return [Texts.of_arrow(values) for values in _read_quoted(block, good, columns, delimiter)]
    starts, ends = block.starts, block.ends
    first, last = np.searchsorted(block.delimiters, (starts[0], ends[-1]))
    delimiters = block.delimiters[first:last]
    if not good.all():
        delimiters = delimiters[np.repeat(good, block.fields - 1)]
        starts, ends = starts[good], ends[good]
    # A column's places side by side, as all that follows goes column by column.
    between = np.ascontiguousarray(delimiters.reshape(len(starts), columns - 1).T)
    data = np.frombuffer(block.data, np.uint8)
    begins = [starts, *(between + 1)]
    return [Texts(data, begin, end - begin) for begin, end in zip(begins, [*between, ends], strict=True)]


def _read_quoted(block: Block, good: npt.NDArray[np.bool_], columns: int, delimiter: str) -> list[Any]:
    # They take a second to import, and many files have no quotes.
    import pandas as pd
    import pyarrow as pa

    if good.all() and columns > 1:
        data = block.data[block.starts[0] : block.ends[-1]]
    else:
        data = b"\n".join([block.raw(index) for index in np.flatnonzero(good).tolist()])
    if data.startswith(_BOM):
        data = _BOM + data  # pandas takes one away, and here it is a character of the first value
    frame = pd.read_csv(
        io.BytesIO(data),
        sep=delimiter,
        header=None,
        names=list(range(columns)),
        index_col=False,
        dtype=pd.ArrowDtype(pa.string()),
        na_filter=False,
        # Empty lines may lie between the records; in a single column, white space is a value.
        skip_blank_lines=columns > 1,
        low_memory=False,
        engine="c",
    )
    if len(frame) != good.sum():
        raise LakefeedError(f"pandas found {len(frame)} rows from line {block.lines[0]} on, not {good.sum()}")
    return [_array(frame[column]) for column in frame.columns]


def _array(series: Any) -> Any:
    import pyarrow as pa

    array: Any = pa.array(series, type=pa.string())
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


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
            columns: the values.
            plain: whether no value has a character that JSON wants escaped.
        """
        parts: list[Part] = []
        for fragment, kind, values in zip(self._fragments, self._types, columns, strict=True):
            absent = missing(values, kind, self._nulls)
            parts += [fragment, *_json_values(values, kind, absent, plain=plain)]
        return Joined([*parts, b"}"], len(columns[0]))


def _json_values(values: Texts, kind: ColumnType, nulls: npt.NDArray[np.bool_], *, plain: bool) -> list[Part]:
    """A column's values as JSON texts. Numbers stay as they are written in the file."""
    some = bool(nulls.any())
    if some:
        values = values.where(~nulls)
    if kind is ColumnType.STRING:
        texts = values if plain else _escaped(values)
        if not some:
            return [b'"', texts, b'"']
        quotes = sometimes(b'"', ~nulls)
        return [quotes, texts, quotes, sometimes(b"null", nulls)]
    null = [sometimes(b"null", nulls)] if some else []
    if kind is ColumnType.BOOLEAN:
        return [*truths(values), *null]
    return [values, *null]


def _escaped(values: Texts) -> Texts:
    import pyarrow as pa
    import pyarrow.compute as pc

    array: Any = values.arrow()
    unsafe = pc.match_substring_regex(array, _TO_ESCAPE)
    if not pc.any(unsafe).as_py():
        return values
    escaped = [orjson.dumps(text)[1:-1].decode() for text in pc.filter(array, unsafe).to_pylist()]
    return Texts.of_arrow(pc.replace_with_mask(array, unsafe, pa.array(escaped, pa.string())))
