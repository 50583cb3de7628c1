"""Opens a CSV file, reads its header, and reads its rows in blocks of UTF-8."""

from __future__ import annotations

import csv
import os
import re
import stat
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, TypeVar

from lakefeed_common.errors import InputError
from lakefeed_common.text import printable, visible
from lakefeed_producer.csv.column_names import event_names
from lakefeed_producer.csv.encoding import transcode
from lakefeed_producer.csv.formats import BOM, check_is_csv
from lakefeed_producer.csv.splitter import LINE_END, Block, split

CHUNK_BYTES = 1 << 19
# The cost of a block grows with its columns, however few rows it has: wide files are read in larger chunks.
_CHUNK_BYTES_PER_COLUMN = 2 << 10
_MAX_CHUNK_BYTES = 16 << 20
# A header can have thousands of columns; a screen cannot.
_MAX_RENAMED_SHOWN = 10
# A spreadsheet that saved the file again appends a delimiter for each further column.
_SEPARATOR_LINE = re.compile(rb'"?sep=(\\t|tab|[\t -!#-~])"?\1*(?=[\r\n]|\Z)', re.IGNORECASE)
_UNKNOWN_SEPARATOR = re.compile(rb'"?sep ?=[^\r\n\w,;]{0,4}"?(?=[\r\n]|\Z)', re.IGNORECASE)
_DELIMITERS = ",;\t|^~"
_AFTER_QUOTED_FIELD = re.compile(r'"(?:[^"]|"")*"(.)', re.DOTALL)


class Digest(Protocol):
    """A hash object of `hashlib`."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written, and how its columns are named in the events.

    Attributes:
        delimiter: one ASCII character.
        encoding: Python's name of the text encoding.
        column_names: `sql` makes names safe for SQL, `as-is` keeps them.
        max_row_bytes: a longer row is rejected.
        quoting: `none` treats quotes as ordinary characters.
        nulls: values, in UTF-8, that are null in every column.
        skip: lines before the header.
    """

    delimiter: str = ","
    encoding: str = "utf-8"
    column_names: Literal["sql", "as-is"] = "sql"
    max_row_bytes: int = 4 << 20
    quoting: Literal["standard", "none"] = "standard"
    nulls: tuple[bytes, ...] = ()
    skip: int = 0


@dataclass(frozen=True)
class Version:
    """Identifies the content of a file without reading it."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Version:
        """The version in a result of `os.stat`."""
        return cls(status.st_size, status.st_mtime_ns)


class CsvFile:
    """A CSV file with a header; it can be read several times.

    Attributes:
        path: the file.
        name: its name without folders, with an escape for each byte that is not UTF-8.
        origin: where the user has it: an absolute path, or an address in S3.
        source: the name as in the header `source` of its events.
        dialect: how it is written.
        header: the column names in the file.
        raw_header: the header's bytes, in UTF-8.
        beginnings: the first two bytes of rows that may repeat it (see `is_header`).
        names: the keys of the events, in the same order.
        renamed: a sentence for each column whose name could not be kept.
        version: size and time of the content that was opened; a later change is an error.
    """

    def __init__(self, path: Path, dialect: Dialect, origin: str | None = None) -> None:
        """Open the file and read its header.

        Args:
            path: the file.
            dialect: how it is written.
            origin: where the user has it, if not at `path`.

        Raises:
            InputError: the file does not exist, cannot be read, is not text, or has no usable header.
        """
        self.path = path
        self.name = visible(path.name)
        self.origin = origin or printable(str(path.absolute()))
        self.source = path.name.encode("utf-8", "surrogateescape")
        self.dialect = dialect
        with open_file(path) as stream:
            self.version = Version.of(os.fstat(stream.fileno()))
            check_is_csv(path, stream.read(8192), encoding=dialect.encoding, has_preamble=dialect.skip > 0)
        self.names: list[str] = []
        self._read_separator_line()
        first = next(self._all_blocks(), None)
        if first is None:
            if dialect.skip:
                raise InputError(f"{path} has no header after the first {dialect.skip:,} lines. Check --skip")
            raise InputError(f"{path} is empty: it has no header. The first line must name the columns")
        self.raw_header = first.raw(0)
        self.header = self._parse_header(first)
        self._stripped_header = [name.strip() for name in self.header]
        self.beginnings = self._beginnings()
        self._first_name = self._stripped_header[0].encode().partition(b'"')[0]
        self._borders = (self.dialect.delimiter.encode(), b'"', b" ", b"\t")
        self.renamed: list[str] = []
        self.names = event_names(self.header, dialect.column_names, self.renamed.append)

    def blocks(self, digest: Digest | None = None) -> Iterator[Block]:
        """Yield the data records of the file, without the header.

        Args:
            digest: is updated with the file's bytes.

        Raises:
            InputError: the file has changed since it was opened, or can no longer be read.
        """
        with closing(_read_ahead(self._all_blocks(digest))) as blocks:
            yield from self._without_header(blocks)

    @staticmethod
    def _without_header(blocks: Iterator[Block]) -> Iterator[Block]:
        first = next(blocks)
        yield first.part(1, len(first))
        yield from blocks

    def warnings(self) -> list[str]:
        """What a user should know about the header before rows are sent."""
        shown, hidden = self.renamed[:_MAX_RENAMED_SHOWN], len(self.renamed) - _MAX_RENAMED_SHOWN
        if hidden > 0:
            shown = [*shown, f"{hidden:,} more columns are renamed. To see all names: --dry-run --limit 1"]
        return [hint, *shown] if (hint := self.delimiter_hint()) else shown

    def delimiter_hint(self) -> str | None:
        """Suggest another delimiter if the header has more of it than of the delimiter."""
        other = max(_DELIMITERS, key=lambda each: sum(name.count(each) for name in self.header))
        if sum(name.count(other) for name in self.header) < len(self.header):
            return None
        what = "is a single column" if len(self.header) == 1 else f"has more {_shown(other)} than delimiters"
        return f"the header {what}. If the delimiter is another character, {_delimiter_advice(other)}"

    def is_header(self, raw: bytes) -> bool:
        """Whether a row repeats the header, or a line `sep=;` before it, as in concatenated files.

        It may be quoted differently, and have a byte order mark.
        """
        raw = raw.removeprefix(BOM)
        if raw == self.raw_header or (raw and raw == self._separator_line):
            return True
        # Many values begin as the first name does; parsing each of their rows would take long.
        name, start = self._first_name, raw.lstrip(b' \t"')
        if not start.startswith(name) or (name and start[len(name) : len(name) + 1] not in self._borders):
            return False
        try:
            return [name.strip() for name in self._fields(raw.decode())] == self._stripped_header
        except (UnicodeDecodeError, csv.Error):
            return False

    def _beginnings(self) -> set[bytes]:
        plain = self.dialect.delimiter.join(self._stripped_header).encode()
        first = self._stripped_header[0].encode()
        starts = {BOM, self.raw_header, plain, first + b" ", b'"' + (plain if first else b'"')}
        return {start[:2] for start in {*starts, self._separator_line} if len(start) > 1}

    def _read_separator_line(self) -> None:
        """Apply a first line such as `sep=;`, and find how many lines precede the header."""
        with closing(self._chunks(None)) as chunks:
            start = next(chunks, b"")
        found = _SEPARATOR_LINE.match(start)
        if not found and not self.dialect.skip and (unknown := _UNKNOWN_SEPARATOR.match(start)):
            raise InputError(
                f"{self.path}: line 1, {visible(unknown[0].decode(errors='replace'))}, sets a delimiter that "
                "is not one ASCII character. Skip the line with --skip 1, and set --delimiter"
            )
        self._separator_line = found[0] if found else b""
        self._skip = max(self.dialect.skip, 1 if found else 0)
        if found:
            named = found[1].lower()
            delimiter = "\t" if named in (b"\\t", b"tab") else named.decode()
            self.dialect = replace(self.dialect, delimiter=delimiter)

    def _parse_header(self, block: Block) -> list[str]:
        raw = block.raw(0)
        if fault := block.faults.get(0):
            other = _AFTER_QUOTED_FIELD.match(raw.decode(errors="replace"))
            advice = ""
            if other and other[1] in _DELIMITERS and other[1] != self.dialect.delimiter:
                advice = f". If the delimiter is another character, {_delimiter_advice(other[1])}"
            raise InputError(
                f"{self.path}: the header (line {block.lines[0]}) cannot be read: {fault}{advice}"
            )
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.path}: the header has bytes that are not {self.dialect.encoding} "
                f"({error.object[error.start : error.end]!r}). Set the file's encoding with --encoding, "
                "such as latin-1, cp1252 or utf-16"
            ) from None
        if "\0" in text:
            raise InputError(f"{self.path}: the header has a NUL byte. The file is damaged or not text")
        try:
            return self._fields(text)
        except csv.Error as error:
            raise InputError(
                f"{self.path}: the header (line {block.lines[0]}) cannot be read: {error}. "
                "Is it a CSV file whose first line names the columns?"
            ) from None

    def _fields(self, text: str) -> list[str]:
        if self.dialect.quoting == "none":
            return text.split(self.dialect.delimiter)
        return next(csv.reader([text], delimiter=self.dialect.delimiter))

    def _all_blocks(self, digest: Digest | None = None) -> Iterator[Block]:
        chunks: Iterator[bytes] = self._chunks(digest)
        if self._skip:
            chunks = _skip_lines(chunks, self._skip)
        dialect = self.dialect
        return split(
            chunks,
            dialect.delimiter.encode(),
            dialect.max_row_bytes,
            quoted=dialect.quoting == "standard",
            first_line=self._skip + 1,
        )

    def _chunks(self, digest: Digest | None) -> Generator[bytes]:
        """Yield the file as UTF-8 without a byte order mark."""
        with open_file(self.path) as stream:
            chunks = self._raw_chunks(stream, digest)
            if self.dialect.encoding not in ("utf-8", "utf-8-sig"):
                chunks = transcode(chunks, self.dialect.encoding)
            try:
                yield next(chunks, b"").removeprefix(BOM)
                yield from chunks
            except UnicodeError as error:
                # Such as UTF-32 without its byte order mark, where only the user knows the byte order.
                raise InputError(
                    f"{self.path} is not {self.dialect.encoding}: {error}. Set its encoding with --encoding"
                ) from None

    def _raw_chunks(self, stream: BinaryIO, digest: Digest | None) -> Iterator[bytes]:
        size = min(max(CHUNK_BYTES, len(self.names) * _CHUNK_BYTES_PER_COLUMN), _MAX_CHUNK_BYTES)
        while True:
            try:
                chunk = stream.read(size)
            except OSError as error:
                raise InputError(f"{self.path} cannot be read: {error.strerror}") from error
            version = Version.of(os.fstat(stream.fileno()))
            if version != self.version:
                raise InputError(
                    f"{self.path} was changed while it was read: it had {self.version.size:,} bytes and has "
                    f"{version.size:,}. Publish a file when it is complete"
                )
            if not chunk:
                return
            if digest is not None:
                digest.update(chunk)
            yield chunk


def _shown(delimiter: str) -> str:
    return "tab" if delimiter == "\t" else delimiter


def _delimiter_advice(other: str) -> str:
    return f"set --delimiter '{_shown(other)}' or LAKEFEED_DELIMITER='{_shown(other)}'"


_T = TypeVar("_T")


def _read_ahead(items: Iterator[_T]) -> Generator[_T]:
    """Yield the same items, and produce the next one in a thread while the caller works on one."""
    with ThreadPoolExecutor(1, "reader") as reader:
        following = reader.submit(next, items, None)
        while (item := following.result()) is not None:
            following = reader.submit(next, items, None)
            yield item


def _skip_lines(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Yield what follows the first `count` lines, whatever they contain."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        position = 0
        while count and (end := LINE_END.search(rest, position)):
            if end.group() == b"\r" and end.end() == len(rest):
                break  # possibly half of a CRLF
            position, count = end.end(), count - 1
        if not count:
            yield rest[position:]
            yield from chunks
            return
        rest = b"\r" if rest.endswith(b"\r") else b""


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        InputError: it does not exist, is not a regular file, or cannot be read.
    """
    if str(path) == "-":
        raise InputError(
            "- (standard input) cannot be published: a file is read twice, the first time to find the "
            "columns' types. Save it to a file first"
        )
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            # Opening a pipe would block until it has a writer.
            raise InputError(f"{path} is not a regular file. A file is read twice: save it to a file first")
        stream = path.open("rb", buffering=0)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}. Check the name and the folder") from None
    except IsADirectoryError:
        raise InputError(
            f"{path} is a folder. Name the CSV files in it, or use `lakefeed-producer watch {path}`"
        ) from None
    except PermissionError:
        raise InputError(f"{path} cannot be read: no permission. Allow reading with chmod a+r") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return stream
