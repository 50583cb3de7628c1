"""Rows that cannot become events: why, and the file that keeps them."""

from __future__ import annotations

import base64
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import orjson

from lakefeed_common.errors import InputError
from lakefeed_producer.records import KEPT_OF_LONG_ROW, Fault
from lakefeed_producer.source import usable_name


class Reason(StrEnum):
    """Why a row was rejected: the label of the metric and the code in the rejects file."""

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
    """One row that is put aside.

    Attributes:
        file: name of the CSV file.
        path: where the user has it: an absolute path, or an address in S3.
        line: 1-based line of the file on which the row starts.
        row: 1-based data row, as in the header `row` of events.
        reason: the code.
        message: the reason in words.
        raw: the row's bytes as they are in the file.
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
        """One line of the rejects file; bytes that are no text come as `raw_base64`, `more` is added."""
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


def rejects_name(name: str) -> str:
    """What the rejects of a CSV file of this name are kept in."""
    return usable_name(name, ".rejects.jsonl")


class RejectsFile:
    """Keeps rejects as JSON lines; the file is made with the first of them.

    It may hold rejects of other files, and of earlier runs. A run appends its own, and only then drops those
    that they replace: so none is lost when it is refused, stopped or killed. Rejects of dry runs are marked,
    and never in one file with others: a dry run leaves a file of others alone.

    Args:
        path: of the file.
        dry_run: whether nothing is published.

    Attributes:
        writes: whether rejects are kept here.
    """

    def __init__(self, path: Path, *, dry_run: bool = False) -> None:
        self.path = path
        self._dry_run = dry_run
        self._stream: IO[bytes] | None = None
        self._source = ""
        self._begin = 0
        self.writes = True

    def __enter__(self) -> Self:
        if self._dry_run:
            with self._errors():
                earlier = next(self._lines(), None)
                self.writes = earlier is None or _is_of_dry_run(earlier)
                if self.writes and earlier is not None:
                    self.path.write_bytes(b"")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()

    def begin(self, origin: str) -> None:
        """The next rejects are those of the file that the user has there."""
        self._source, self._begin = origin, 0
        if self._dry_run:
            return
        with self._errors():
            if not self.path.is_file():
                return
            self._open()
            if _is_of_dry_run(next(self._lines(), b"")):
                self.path.write_bytes(b"")
            with self.path.open("r+b") as stream:
                if stream.seek(0, os.SEEK_END):
                    stream.seek(-1, os.SEEK_END)
                    # A kill may have left half a line.
                    stream.write(b"" if stream.read() == b"\n" else b"\n")
                self._begin = stream.tell()

    def write(self, rejects: list[Reject]) -> None:
        """Append rejects and hand them to the operating system.

        Raises:
            InputError: the file cannot be written.
        """
        if not self.writes:
            return
        with self._errors():
            stream = self._open()
            mark = {"dry_run": True} if self._dry_run else {}
            stream.write(b"".join(reject.as_json(mark) for reject in rejects))
            stream.flush()

    def end(self, upto: int | None) -> None:
        """Drop the earlier rejects of the file that those since `begin` replace.

        Args:
            upto: the last row up to which all rejects have been written; None for the end of the file.

        Raises:
            InputError: the file cannot be written.
        """
        if not self._begin:
            return
        with self._errors(), self._alone() as alone:
            if not alone:
                return  # a later run drops them
            # What the broker refuses for its size comes late: rows behind `upto` may be in both runs.
            later = {row for _, row in map(_place, self._lines(self._begin))} if upto is not None else set()

            def is_replaced(line: bytes) -> bool:
                origin, row = _place(line)
                return origin == self._source and (upto is None or row <= upto or row in later)

            self._drop(is_replaced)

    def _open(self) -> IO[bytes]:
        if self._stream is None:
            self._stream = self.path.open("ab")
            self._lock(fcntl.LOCK_SH)
        return self._stream

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other run has the file: its lines must stay where they are."""
        alone = self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield alone
        finally:
            self._lock(fcntl.LOCK_SH)

    def _lock(self, kind: int) -> bool:
        """On a file system without locks each run is alone."""
        try:
            fcntl.flock(self._open(), kind)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def _drop(self, is_replaced: Callable[[bytes], bool]) -> None:
        """Move the lines that stay forward, over those that go: at no time is one of them in no place."""
        position = kept = 0
        with self.path.open("r+b") as target:
            for line in self._lines():
                stays = position >= self._begin or not is_replaced(line)
                position += len(line)
                if stays and kept + len(line) < position:
                    target.seek(kept)
                    target.write(line)
                kept += len(line) if stays else 0
            if kept < position:
                target.truncate(kept)

    def _lines(self, begin: int = 0) -> Iterator[bytes]:
        # It may be a terminal or a pipe.
        if self.path.is_file():
            with self.path.open("rb") as stream:
                stream.seek(begin)
                yield from stream

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"the rejects file {self.path} cannot be written: {error.strerror}. "
                "Name another with --rejects PATH"
            ) from error


def _place(line: bytes) -> tuple[str, int]:
    """Which file and row a line is about; none if it is not one of ours, which stays."""
    try:
        reject = orjson.loads(line)
        return str(reject["path"]), int(reject["row"])
    except (ValueError, TypeError, KeyError):
        return "", 0


def _is_of_dry_run(line: bytes) -> bool:
    return line.endswith(b',"dry_run":true}\n')
