"""Finds the fields of records, column by column, and unquotes them, without an object for each field."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from lakefeed_common.errors import LakefeedError
from lakefeed_producer.csv.byte_columns import ByteColumn, Bytes, Flags, Numbers, concat, count_before
from lakefeed_producer.csv.splitter import Block

_QUOTE = np.uint8(ord('"'))


def read_columns(block: Block, good: Flags, columns: int, delimiter: str) -> list[ByteColumn]:
    """The fields of the good records, column by column, all in the same buffer.

    The good records have `columns` fields each, and are valid UTF-8 without NUL bytes.
    """
    starts, ends = block.starts, block.ends
    first, last = np.searchsorted(block.delimiters, (starts[0], ends[-1]))
    delimiters = block.delimiters[first:last]
    if not good.all():
        delimiters = delimiters[np.repeat(good, np.maximum(block.fields - 1, 0))]
        starts, ends = starts[good], ends[good]
    # Contiguous by column, because everything that follows works column by column.
    between = np.ascontiguousarray(delimiters.reshape(len(starts), columns - 1).T)
    begins = np.vstack((starts, between + 1))
    lengths = np.vstack((between, ends))
    lengths -= begins
    data = np.frombuffer(block.data, np.uint8)
    if block.quoted and block.contains(b'"'):
        data = _unquote(data, begins, lengths, delimiter)
    return [ByteColumn(data, begin, length) for begin, length in zip(begins, lengths, strict=True)]


def _unquote(data: Bytes, begins: Numbers, lengths: Numbers, delimiter: str) -> Bytes:
    """Remove the quotes of the fields that start with one; `begins` and `lengths` are changed in place.

    Returns:
        The buffer with the fields: the same bytes, followed by the fields that had quotes inside.
    """
    quoted = (lengths > 0) & (data[np.minimum(begins, data.size - 1)] == _QUOTE)
    begins += quoted
    lengths -= 2 * quoted
    doubled = quoted & (_counts(data == _QUOTE, begins, lengths) > 0)
    if not doubled.any():
        return data
    raw = ByteColumn(data, begins[doubled] - 1, lengths[doubled] + 2)
    plain = _parse_quoted(raw, delimiter)
    begins[doubled] = plain.starts + data.size
    lengths[doubled] = plain.lengths
    return np.concatenate((data, plain.data))


def _counts(flags: Flags, begins: Numbers, lengths: Numbers) -> Numbers:
    """The number of set flags in each field."""
    before = count_before(flags)
    counts: Numbers = before[begins + lengths] - before[begins]
    return counts


def _parse_quoted(fields: ByteColumn, delimiter: str) -> ByteColumn:
    """The values of quoted fields, parsed by pandas."""
    # They take a second to import, and many files have no quotes inside quotes.
    import pandas as pd
    import pyarrow as pa

    frame = pd.read_csv(
        io.BytesIO(concat([fields, b"\n"], len(fields))[0].tobytes()),
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
    return ByteColumn.of_arrow(array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array)
