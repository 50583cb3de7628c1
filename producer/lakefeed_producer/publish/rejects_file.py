"""The file that keeps rejected rows."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import orjson

from lakefeed_common.errors import InputError
from lakefeed_producer.csv.file_names import safe_file_name
from lakefeed_producer.csv.rejects import Reject


def rejects_name(name: str) -> str:
    """The name of the rejects file of a CSV file."""
    return safe_file_name(name, ".rejects.jsonl")


class RejectsFile:
    """Keeps rejects as JSON lines; the file is created with the first one.

    It may hold rejects of other CSV files and of earlier runs. A run appends its own and only then removes
    those that they replace, so that none is lost if the run is refused, stopped or killed. Rejects of dry
    runs are marked and never mixed with others: a dry run leaves rejects of published files as they are.

    Attributes:
        path: the file.
        dry_run: whether nothing is published.
        writes: whether rejects are kept here.
    """

    def __init__(self, path: Path, *, dry_run: bool = False) -> None:
        self.path = path
        self.dry_run = dry_run
        self._stream: IO[bytes] | None = None
        self._source = ""
        self._begin = 0
        self.writes = True

    def __enter__(self) -> Self:
        if self.dry_run:
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
        """Start with the rejects of the CSV file at `origin`."""
        self._source, self._begin = origin, 0
        if self.dry_run:
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
                    # A killed run may have left an incomplete line.
                    stream.write(b"" if stream.read() == b"\n" else b"\n")
                self._begin = stream.tell()

    def write(self, rejects: Sequence[Reject]) -> None:
        """Append rejects and flush them to the operating system.

        Raises:
            InputError: the file cannot be written.
        """
        if not self.writes:
            return
        with self._errors():
            stream = self._open()
            mark = {"dry_run": True} if self.dry_run else {}
            stream.write(b"".join(reject.as_json(mark) for reject in rejects))
            stream.flush()

    def end(self, upto: int | None) -> None:
        """Remove earlier rejects of the CSV file that those since `begin` replace.

        Args:
            upto: the row up to which all rejects have been written; None for the whole file.

        Raises:
            InputError: the file cannot be written.
        """
        if not self._begin:
            return
        with self._errors(), self._exclusive() as exclusive:
            if not exclusive:
                return  # a later run removes them
            # The broker refuses sizes late: rows after `upto` may have rejects of both runs.
            later = {row for _, row in map(_place, self._lines(self._begin))} if upto is not None else set()

            def is_replaced(line: bytes) -> bool:
                origin, row = _place(line)
                return origin == self._source and (upto is None or row <= upto or row in later)

            self._remove(is_replaced)

    def _open(self) -> IO[bytes]:
        if self._stream is None:
            self._stream = self.path.open("ab")
            self._lock(fcntl.LOCK_SH)
        return self._stream

    @contextmanager
    def _exclusive(self) -> Iterator[bool]:
        """Whether no other run has the file open, so that its lines may be moved."""
        exclusive = self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield exclusive
        finally:
            self._lock(fcntl.LOCK_SH)

    def _lock(self, kind: int) -> bool:
        """Lock the file; False if another run holds a lock. Always True on a file system without locks."""
        try:
            fcntl.flock(self._open(), kind)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def _remove(self, is_replaced: Callable[[bytes], bool]) -> None:
        """Move the lines to keep over those to remove; at any time, each line to keep is in the file."""
        position = kept = 0
        with self.path.open("r+b") as target:
            for line in self._lines():
                keep = position >= self._begin or not is_replaced(line)
                position += len(line)
                if keep and kept + len(line) < position:
                    target.seek(kept)
                    target.write(line)
                kept += len(line) if keep else 0
            if kept < position:
                target.truncate(kept)

    def _lines(self, begin: int = 0) -> Iterator[bytes]:
        # It may be a device, such as a terminal or a pipe.
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
                "Name another file with --rejects PATH"
            ) from error


def _place(line: bytes) -> tuple[str, int]:
    """The CSV file and the row of a line; empty for a line that is not a reject, which is kept."""
    try:
        reject = orjson.loads(line)
        return str(reject["path"]), int(reject["row"])
    except (ValueError, TypeError, KeyError):
        return "", 0


def _is_of_dry_run(line: bytes) -> bool:
    return line.endswith(b',"dry_run":true}\n')
