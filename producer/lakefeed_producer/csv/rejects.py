"""Rows that cannot become events, and why."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from lakefeed_producer.csv.splitter import KEPT_OF_LONG_ROW, Fault


class Reason(StrEnum):
    """Why a row was rejected: a label of the metric, and the code in the rejects file."""

    TOO_MANY_FIELDS = "too_many_fields"
    TOO_FEW_FIELDS = "too_few_fields"
    BAD_ENCODING = "bad_encoding"
    BAD_QUOTES = "bad_quotes"
    NUL_BYTE = "nul_byte"
    ROW_TOO_LONG = "row_too_long"
    REPEATED_HEADER = "repeated_header"
    TYPE_MISMATCH = "type_mismatch"
    EVENT_TOO_LARGE = "event_too_large"


REASON_OF_FAULT = {
    Fault.OPEN_QUOTE: Reason.BAD_QUOTES,
    Fault.AFTER_QUOTE: Reason.BAD_QUOTES,
    Fault.TOO_LONG: Reason.ROW_TOO_LONG,
}


@dataclass(frozen=True)
class Reject:
    """One rejected row.

    Attributes:
        file: name of the CSV file.
        path: where the user has the file: an absolute path, or an address in S3.
        line: 1-based line of the file on which the row starts.
        row: 1-based data row, as in the header `row` of events.
        reason: the code.
        message: the reason in words.
        raw: the row's bytes as they are in the file.
        encoding: Python's name of the file's text encoding.
    """

    file: str
    path: str
    line: int
    row: int
    reason: Reason
    message: str
    raw: bytes
    encoding: str = "utf-8"

    def as_json(self, more: Mapping[str, Any] | None = None) -> bytes:
        """One line of the rejects file, with the fields of `more`; undecodable bytes are in `raw_base64`."""
        line: dict[str, Any] = {
            "file": self.file,
            "path": self.path,
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
        return orjson.dumps(line | dict(more or {})) + b"\n"
