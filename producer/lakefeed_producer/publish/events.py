"""Encodes rows as events: one JSON object per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import orjson

from lakefeed_producer.csv.byte_columns import ByteColumn, ConcatColumn, Flags, Part, count_before, masked
from lakefeed_producer.csv.column_types import ColumnType, boolean_literals, missing

_QUOTE, _BACKSLASH, _SPACE = map(np.uint8, b'"\\ ')


class Encoder:
    """Encodes the rows of one file.

    Args:
        names: the keys of the events, in order.
        types: the type of each column.
        nulls: values that are null in every column.
    """

    def __init__(
        self, names: Sequence[str], types: Sequence[ColumnType], nulls: Sequence[bytes] = ()
    ) -> None:
        self._nulls = nulls
        self._types = list(types)
        keys = [orjson.dumps(name) for name in names]
        self._fragments = [(b"," if index else b"{") + key + b":" for index, key in enumerate(keys)]

    def encode(self, columns: Sequence[ByteColumn], *, plain: bool) -> ConcatColumn:
        """One JSON object per row, keys in the columns' order.

        Args:
            columns: the values, all in the same buffer.
            plain: whether no value has a character that JSON escapes.
        """
        parts: list[Part] = []
        strings = [index for index, kind in enumerate(self._types) if kind is ColumnType.STRING]
        escaped = {} if plain else _escape({index: columns[index] for index in strings})
        for index, (fragment, kind, values) in enumerate(
            zip(self._fragments, self._types, columns, strict=True)
        ):
            nulls = missing(values, kind, self._nulls)
            parts += [fragment, *_json_values(escaped.get(index, values), kind, nulls)]
        return ConcatColumn([*parts, b"}"], len(columns[0]))


def _json_values(values: ByteColumn, kind: ColumnType, nulls: Flags) -> list[Part]:
    """A column's values as JSON. Numbers stay as they are written in the file."""
    has_nulls = bool(nulls.any())
    if has_nulls:
        values = values.where(~nulls)
    if kind is ColumnType.STRING:
        if not has_nulls:
            return [b'"', values, b'"']
        quotes = masked(b'"', ~nulls)
        return [quotes, values, quotes, masked(b"null", nulls)]
    null = [masked(b"null", nulls)] if has_nulls else []
    return [*(boolean_literals(values) if kind is ColumnType.BOOLEAN else [values]), *null]


def _escape(columns: Mapping[int, ByteColumn]) -> dict[int, ByteColumn]:
    """Escape the values that need it, in columns that share a buffer.

    Returns:
        The columns that have such values, by their key in `columns`.
    """
    if not columns:
        return {}
    data = next(iter(columns.values())).data
    before = count_before((data == _QUOTE) | (data == _BACKSLASH) | (data < _SPACE))
    to_escape: dict[int, Flags] = {}
    for index, values in columns.items():
        flags = before[values.starts + values.lengths] != before[values.starts]
        if flags.any():
            to_escape[index] = flags
    if not to_escape:
        return {}
    places = [columns[index].take(flags) for index, flags in to_escape.items()]
    starts = np.concatenate([place.starts for place in places])
    lengths = np.concatenate([place.lengths for place in places])
    texts = ConcatColumn([ByteColumn(data, starts, lengths)], len(starts)).to_list()
    written = ByteColumn.of([orjson.dumps(text.decode())[1:-1] for text in texts])
    together = np.concatenate((data, written.data))
    escaped = {}
    first = 0
    for index, flags in to_escape.items():
        starts, lengths = columns[index].starts.copy(), columns[index].lengths.copy()
        part = slice(first, first := first + int(flags.sum()))
        starts[flags], lengths[flags] = written.starts[part] + data.size, written.lengths[part]
        escaped[index] = ByteColumn(together, starts, lengths)
    return escaped
