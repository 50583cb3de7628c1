"""Rows that cannot become events: why, and the file that keeps them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import orjson

from lakefeed_common.errors import InputError
from lakefeed_producer.records import KEPT_OF_LONG_ROW, Fault


class Reason(StrEnum):
    """Why a row was rejected: the label of the metric and the code in the rejects file."""

    TOO_MANY_FIELDS = "too_many_fields"
    TOO_FEW_FIELDS = "too_few_fields"
    BAD_ENCODING = "bad_encoding"
    BAD_QUOTES = "bad_quotes"
    NUL_BYTE = "nul_byte"
    ROW_TOO_LONG = "row_too_long"
    TYPE_MISMATCH = "type_mismatch"
    EVENT_TOO_LARGE = "event_too_large"


REASON_OF_FAULT = {
    Fault.OPEN_QUOTE: Reason.BAD_QUOTES,
    Fault.AFTER_QUOTE: Reason.BAD_QUOTES,
    Fault.TOO_LONG: Reason.ROW_TOO_LONG,
}


@dataclass(frozen=True)
class Reject:
    """One row that is put aside.

    Attributes:
        file: name of the CSV file.
        line: 1-based line of the file on which the row starts.
        row: 1-based data row, as in the header `row` of events.
        reason: the code.
        message: the reason in words.
        raw: the row's bytes as they are in the file.
    """

    file: str
    line: int
    row: int
    reason: Reason
    message: str
    raw: bytes
    encoding: str = "utf-8"

    def as_json(self) -> bytes:
        """One line of the rejects file; bytes that are no text come as `raw_base64`."""
        line: dict[str, Any] = {
            "file": self.file,
            "line": self.line,
            "row": self.row,
            "reason": self.reason,
            "message": self.message,
        }
        raw = self.raw
        if self.reason is Reason.ROW_TOO_LONG:
            raw = raw[:KEPT_OF_LONG_ROW]
            line["raw_is_cut"] = True
        try:
            line["raw"] = raw.decode(self.encoding)
        except UnicodeDecodeError:
            line["raw_base64"] = base64.b64encode(raw).decode()
        return orjson.dumps(line) + b"\n"


class RejectsFile:
    """Writes rejects as JSON lines; the file is made with the first of them.

    A file that is there already is emptied: a run that goes on with a CSV finds its rejects anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> Self:
        if self.path.exists():
            try:
                self.path.write_bytes(b"")
            except OSError as error:
                raise self._unwritable(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()

    def write(self, rejects: list[Reject]) -> None:
        """Append rejects and hand them to the operating system.

        Raises:
            InputError: the file cannot be written.
        """
        try:
            if self._stream is None:
                self._stream = self.path.open("ab")
            self._stream.write(b"".join(reject.as_json() for reject in rejects))
            self._stream.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(
            f"the rejects file {self.path} cannot be written: {error.strerror}. "
            "Name another with --rejects PATH"
        )
