"""Sorts the records of a file into rows that can become events, and rejects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from lakefeed_producer.csv.byte_columns import ByteColumn, is_any_of
from lakefeed_producer.csv.column_types import ColumnType, Tally, TypeFinder, fitting, surely_fit
from lakefeed_producer.csv.encoding import original_bytes
from lakefeed_producer.csv.fields import read_columns
from lakefeed_producer.csv.file import CsvFile, Digest
from lakefeed_producer.csv.rejects import REASON_OF_FAULT, Reason, Reject
from lakefeed_producer.csv.splitter import Block, Positions


@dataclass(frozen=True)
class Origin:
    """Where consecutive data rows are in their file.

    Attributes:
        file: the CSV file.
        block: their records, good or rejected.
        first_row: number of the first one.
    """

    file: CsvFile
    block: Block
    first_row: int

    def reject(self, row: int, reason: Reason, message: str) -> Reject:
        """The reject of one of the rows."""
        file, index = self.file, row - self.first_row
        encoding = file.dialect.encoding
        raw = original_bytes(self.block.raw(index), encoding)
        line = int(self.block.lines[index])
        return Reject(file.name, file.origin, line, row, reason, message, raw, encoding)


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of a file.

    Attributes:
        columns: the values of the good rows.
        rows: their data row numbers.
        rejects: the rejected rows.
        origin: where all of them are in the file.
    """

    columns: list[ByteColumn]
    rows: Positions
    rejects: list[Reject]
    origin: Origin

    @property
    def count(self) -> int:
        """The number of data rows, good or rejected."""
        return len(self.origin.block)

    @property
    def last_row(self) -> int:
        """The last data row, good or rejected."""
        return self.origin.first_row + self.count - 1

    @property
    def is_plain(self) -> bool:
        """Whether no value has a character that JSON escapes."""
        return self.origin.block.is_plain(self.origin.file.dialect.delimiter)


def read_rows(
    file: CsvFile,
    *,
    limit: int | None = None,
    given: Mapping[int, ColumnType] | None = None,
) -> Iterator[Rows]:
    """Yield the rows, at most up to row `limit`.

    Args:
        file: the CSV file.
        limit: the last data row to read; all by default.
        given: types by column index; a row with a value that does not fit is rejected.
    """
    done = 0
    for whole in file.blocks():
        first_row = done + 1
        done += len(whole)
        end = len(whole) if limit is None else min(limit - first_row + 1, len(whole))
        if end > 0:
            yield _sort_rows(file, whole.part(0, end), first_row, given or {})
        if limit is not None and done >= limit:
            return


def infer_types(
    file: CsvFile,
    given: Mapping[int, ColumnType],
    beat: Callable[[], None] = lambda: None,
    digest: Digest | None = None,
    observe: Callable[[Block], None] = lambda _: None,
) -> tuple[list[ColumnType], int]:
    """Read the whole file: the type of each column, and the number of data rows.

    Args:
        file: the CSV file.
        given: types by column index, which are not inferred.
        beat: called after each block; may raise to stop.
        digest: a hash that is updated with the file's bytes.
        observe: called with each block.
    """
    nulls = file.dialect.nulls
    finders = {index: TypeFinder(nulls) for index in range(len(file.names)) if index not in given}
    total = 0
    for block in file.blocks(digest):
        if any(not finder.settled for finder in finders.values()):
            rows = _sort_rows(file, block, total + 1, {})
            tally = Tally(rows.columns[0].data)
            for index, finder in finders.items():
                column = rows.columns[index]
                finder.feed(column, tally if column.data is tally.data else None)
        observe(block)
        total += len(block)
        beat()
    types = [given[index] if index in given else finders[index].result() for index in range(len(file.names))]
    return types, total


def _sort_rows(file: CsvFile, block: Block, first_row: int, given: Mapping[int, ColumnType]) -> Rows:
    wrong = _unusable(file, block)
    good = np.ones(len(block), np.bool_)
    good[list(wrong)] = False
    width = len(file.names)
    if good.any():
        columns = read_columns(block, good, width, file.dialect.delimiter)
    else:
        columns = [ByteColumn.of([])] * width
    indices = np.flatnonzero(good)
    misfits = _misfits(file, columns, given)
    if misfits:
        wrong |= {int(indices[at]): (Reason.TYPE_MISMATCH, message) for at, message in misfits.items()}
        fitting = np.ones(len(indices), np.bool_)
        fitting[list(misfits)] = False
        columns = [values.take(fitting) for values in columns]
        indices = indices[fitting]
    origin = Origin(file, block.without_fields(), first_row)
    rejects = [
        origin.reject(first_row + index, reason, message)
        for index, (reason, message) in sorted(wrong.items())
    ]
    return Rows(columns, first_row + indices, rejects, origin)


def _unusable(file: CsvFile, block: Block) -> dict[int, tuple[Reason, str]]:
    """Records that cannot be rows, by index."""
    width = len(file.names)
    wrong: dict[int, tuple[Reason, str]] = {}
    for index in np.flatnonzero(block.fields != width).tolist():
        count = int(block.fields[index])
        reason = Reason.TOO_MANY_FIELDS if count > width else Reason.TOO_FEW_FIELDS
        wrong[index] = (reason, f"{count} {'field' if count == 1 else 'fields'}, and the header has {width}")
    _find_repeated_headers(file, block, wrong)
    _find_bad_bytes(file, block, wrong)
    for index, fault in block.faults.items():
        wrong[index] = (REASON_OF_FAULT[fault], str(fault))
    return wrong


def _find_repeated_headers(file: CsvFile, block: Block, wrong: dict[int, tuple[Reason, str]]) -> None:
    """Find rows that repeat the header, as in concatenated files.

    In a file with a single column it may be a value: a list of words with the header `word` contains it too.
    """
    if len(file.names) == 1:
        return
    data = np.frombuffer(block.data, np.uint8)
    # The first bytes exclude almost all rows.
    pair = (data[np.minimum(block.starts, data.size - 1)], data[np.minimum(block.starts + 1, data.size - 1)])
    possible = np.zeros(len(block), np.bool_)
    for first, second in file.beginnings:
        possible |= (pair[0] == first) & (pair[1] == second)
    for index in np.flatnonzero(possible).tolist():
        if file.is_header(block.raw(index)):
            wrong[index] = (Reason.REPEATED_HEADER, "the header is repeated")


def _find_bad_bytes(file: CsvFile, block: Block, wrong: dict[int, tuple[Reason, str]]) -> None:
    if not len(block):
        return
    has_nul = block.contains(b"\0")
    if block.data.isascii() and not has_nul:
        return
    if has_nul:
        for index in range(len(block)):
            if b"\0" in block.raw(index):
                wrong[index] = (Reason.NUL_BYTE, "a NUL byte: the file may be damaged")
    try:
        block.data[slice(*block.span)].decode()
    except UnicodeDecodeError:
        for index in range(len(block)):
            try:
                block.raw(index).decode()
            except UnicodeDecodeError as error:
                message = f"bytes that are not {file.dialect.encoding} at byte {error.start + 1} of the row"
                wrong[index] = (Reason.BAD_ENCODING, message)


def _misfits(file: CsvFile, columns: list[ByteColumn], given: Mapping[int, ColumnType]) -> dict[int, str]:
    """Rows with a value that is not of its column's given type, and a message about the first such value."""
    misfits: dict[int, str] = {}
    nulls = file.dialect.nulls
    if not given:
        return misfits
    tally = Tally(columns[0].data)
    for index, kind in given.items():
        column = columns[index]
        if surely_fit(column, kind, nulls, tally if column.data is tally.data else None):
            continue
        good = fitting(column, kind)
        if nulls:
            good |= is_any_of(column, nulls)
        for at in np.flatnonzero(~good):
            value = column[int(at)].decode()
            shown = value if len(value) <= 100 else value[:100] + "…"
            article = "an" if kind is ColumnType.INTEGER else "a"
            misfits.setdefault(int(at), f"{file.header[index]}: {shown!r} is not {article} {kind}")
    return misfits
