"""Turns rows into the bytes of events: one JSON object a row."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import pyarrow as pa

from lakefeed_common.errors import LakefeedError
from lakefeed_producer.columns import NOT_A_NUMBER, Column, ColumnType, Flags, pc
from lakefeed_producer.records import Block

_TEXT = pd.ArrowDtype(pa.string())
_TO_ESCAPE = r'["\\\x00-\x1f]'
_BOM = b"\xef\xbb\xbf"


def read_columns(block: Block, good: npt.NDArray[np.bool_], columns: int, delimiter: str) -> list[Column]:
    """The fields of the good records, column by column, as texts.

    The good records have `columns` fields each and are valid UTF-8 without NUL bytes.
    """
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
        dtype=_TEXT,
        na_filter=False,
        # Empty lines may lie between the records; in a single column, white space is a value.
        skip_blank_lines=columns > 1,
        low_memory=False,
        engine="c",
    )
    if len(frame) != good.sum():
        raise LakefeedError(f"pandas found {len(frame)} rows from line {block.lines[0]} on, not {good.sum()}")
    return [_array(frame[column]) for column in frame.columns]


def _array(series: Any) -> Column:
    array: Any = pa.array(series, type=pa.string())
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def missing(values: Column, kind: ColumnType) -> Flags:
    """Which values of a column are null in the events."""
    empty = pc.equal(values, "")
    return pc.or_(empty, pc.is_in(values, NOT_A_NUMBER)) if kind.is_numeric else empty


class Encoder:
    """Encodes the rows of one file.

    Args:
        names: the keys of the events, in order.
        types: the type of each column.
    """

    def __init__(self, names: Sequence[str], types: Sequence[ColumnType]) -> None:
        self._types = list(types)
        keys = [orjson.dumps(name).decode() for name in names]
        self._fragments = [("," if index else "{") + key + ":" for index, key in enumerate(keys)]

    def encode(self, columns: Sequence[Column]) -> list[bytes]:
        """One JSON object for each row, keys in the columns' order."""
        parts: list[Any] = []
        for fragment, kind, values in zip(self._fragments, self._types, columns, strict=True):
            parts += [pa.scalar(fragment), json_values(values, kind)]
        # The last argument is what goes between the others: nothing.
        rows = pc.binary_join_element_wise(*parts, pa.scalar("}"), pa.scalar(""))
        encoded: list[bytes] = pc.cast(rows, pa.binary()).to_pylist()
        return encoded


def json_values(values: Column, kind: ColumnType) -> Column:
    """A column's values as JSON texts. Numbers stay as they are written in the file."""
    match kind:
        case ColumnType.STRING:
            texts = _quoted(values)
        case ColumnType.BOOLEAN:
            texts = pc.ascii_lower(values)
        case _:
            texts = values
    nulls = missing(values, kind)
    return pc.if_else(nulls, "null", texts) if pc.any(nulls).as_py() else texts


def _quoted(values: Column) -> Column:
    unsafe = pc.match_substring_regex(values, _TO_ESCAPE)
    if pc.any(unsafe).as_py():
        escaped = [orjson.dumps(text).decode()[1:-1] for text in pc.filter(values, unsafe).to_pylist()]
        values = pc.replace_with_mask(values, unsafe, pa.array(escaped, pa.string()))
    return pc.binary_join_element_wise('"', values, '"', "")
