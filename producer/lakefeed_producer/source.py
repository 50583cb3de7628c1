"""Opens a CSV file: says clearly what is wrong with it, reads it in chunks of UTF-8."""

from __future__ import annotations

import codecs
import csv
import fcntl
import hashlib
import json
import logging
import os
import re
import signal
import stat
import sys
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, TypeVar

from lakefeed_common.errors import InputError, LakefeedError
from lakefeed_common.text import printable
from lakefeed_producer.names import event_names
from lakefeed_producer.records import LINE_END, Block, split

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 19
# The most bytes that a file system takes as a name.
_NAME_BYTES = 255
_BOM = b"\xef\xbb\xbf"
_MAGIC = [
    (b"\x1f\x8b", "gzip", "Decompress it first: gzip -d"),
    (b"BZh", "bzip2", "Decompress it first: bzip2 -d"),
    (b"\xfd7zXZ\x00", "xz", "Decompress it first: xz -d"),
    (b"\x28\xb5\x2f\xfd", "Zstandard", "Decompress it first: zstd -d"),
    (b"PK\x03\x04", "Zip or Excel (xlsx)", "Unpack it, or save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "Excel (xls)", "Save the sheet as CSV"),
    (b"PAR1", "Parquet", "Convert it to CSV"),
    (b"ORC", "ORC", "Convert it to CSV"),
    (b"Obj\x01", "Avro", "Convert it to CSV"),
    (b"SQLite format 3\x00", "SQLite", "Export the table as CSV"),
    (b"%PDF-", "PDF", "Export the table as CSV"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip", "Unpack it first"),
    (b"Rar!\x1a\x07", "RAR", "Unpack it first"),
    (b"\x04\x22\x4d\x18", "LZ4", "Decompress it first: lz4 -d"),
    (b"ARROW1", "Arrow or Feather", "Convert it to CSV"),
    (b"\x89HDF\r\n", "HDF5", "Convert it to CSV"),
    (b"\x89PNG", "a PNG image", "Publish the table that it shows as text"),
    (b"\xff\xd8\xff", "a JPEG image", "Publish the table that it shows as text"),
    (b"GIF8", "a GIF image", "Publish the table that it shows as text"),
    (b"\x7fELF", "a program", "Name the CSV file"),
    (b"{\\rtf", "rich text", "Save the table as CSV"),
    (b"version https://git-lfs", "a Git LFS pointer to it", "Fetch the file itself: git lfs pull"),
    (b"/annex/objects/", "a git-annex pointer to it", "Fetch the file itself: git annex get"),
    (b"# xet version", "a Git Xet pointer to it", "Fetch the file itself: git xet checkout"),
]
# The same for text, whose case and leading white space do not matter.
_MARKUP = [
    (b"<!doctype html", "HTML", "Is it the error page of a download? Fetch the file again"),
    (b"<html", "HTML", "Is it the error page of a download? Fetch the file again"),
    (b"<?xml", "XML", "Is it the answer to a failed download? If not, convert it to CSV"),
]


# Behind it a spreadsheet that saved the file again has put a delimiter for each other column.
_SEPARATOR = re.compile(rb'"?sep=([\t -!#-~])"?\1*(?:\r\n|\r|\n|\Z)', re.IGNORECASE)


class BusyError(LakefeedError):
    """Another producer publishes the same file."""

    kind = "busy"
    retryable = True


class Digest(Protocol):
    """A hash of `hashlib`."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written and how its columns are to be called; `skip` lines come before its header."""

    delimiter: str = ","
    encoding: str = "utf-8"
    column_names: Literal["sql", "as-is"] = "sql"
    max_row_bytes: int = 4 << 20
    skip: int = 0


@dataclass(frozen=True)
class Version:
    """What tells one content of a file from another without reading it."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Version:
        """The version that `os.stat` tells of."""
        return cls(status.st_size, status.st_mtime_ns)


class CsvFile:
    """A CSV file that has a header; it can be read as often as one likes.

    Attributes:
        path: where it is.
        name: its name without folders; bytes that are not UTF-8 are escaped.
        origin: where the user has it: an absolute path, or an address in S3.
        source: the name as the header `source` of its events.
        header: the column names as the file has them.
        raw_header: the header's bytes as UTF-8.
        names: the keys of the events, in the same order.
        version: size and time of the content that was opened; a later change is an error.
    """

    def __init__(self, path: Path, dialect: Dialect, origin: str | None = None) -> None:
        """Open the file and read its header.

        Args:
            path: where it is.
            dialect: how it is written.
            origin: where the user has it, if that is another place.

        Raises:
            InputError: there is no such file, it cannot be read, is not text, or has no usable header.
        """
        self.path = path
        self.name = printable(path.name)
        self.origin = origin or printable(str(path.absolute()))
        self.source = path.name.encode("utf-8", "surrogateescape")
        self.dialect = dialect
        with _open(path) as stream:
            self.version = Version.of(os.fstat(stream.fileno()))
            _check_is_text(path, stream.read(8192), dialect)
        self._read_separator()
        first = next(self._all_blocks(), None)
        if first is None:
            if dialect.skip:
                raise InputError(f"{path} has no header after the first {dialect.skip:,} lines. Check --skip")
            raise InputError(f"{path} is empty: it has no header. The first line must name the columns")
        self.raw_header = first.raw(0)
        self.header = self._header(first)
        try:
            self.names = event_names(self.header, dialect.column_names)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def blocks(self, digest: Digest | None = None) -> Iterator[Block]:
        """The data records of the file, without the header, block by block.

        Args:
            digest: is updated with the file's bytes.

        Raises:
            InputError: the file has changed since it was opened, or cannot be read any more.
        """
        with closing(_ahead(self._all_blocks(digest))) as blocks:
            yield from self._without_header(blocks)

    @staticmethod
    def _without_header(blocks: Iterator[Block]) -> Iterator[Block]:
        first = next(blocks)
        yield first.part(1, len(first))
        yield from blocks

    def hint(self) -> str | None:
        """A guess at a wrong delimiter, from a header that is one single column."""
        if len(self.header) == 1:
            for other in (",", ";", "\t", "|"):
                if other in self.header[0] and other != self.dialect.delimiter:
                    shown = "tab" if other == "\t" else other
                    return (
                        "the header is one single column; is the delimiter another? "
                        f"--delimiter '{shown}' or LAKEFEED_DELIMITER='{shown}'"
                    )
        return None

    def _read_separator(self) -> None:
        """Obey a first line `sep=;`, as Excel does, and find how many lines are before the header."""
        with closing(self._chunks(None)) as chunks:
            found = _SEPARATOR.match(next(chunks, b""))
        self._skip = max(self.dialect.skip, 1 if found else 0)
        if found:
            self.dialect = replace(self.dialect, delimiter=found[1].decode())

    def _header(self, block: Block) -> list[str]:
        raw = block.raw(0)
        if fault := block.faults.get(0):
            raise InputError(f"{self.path}: the header (line {block.lines[0]}) cannot be read: {fault}")
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.path}: the header has bytes that are not {self.dialect.encoding} "
                f"({error.object[error.start : error.end]!r}). Name the file's encoding with --encoding, "
                "such as latin-1, cp1252 or utf-16"
            ) from None
        if "\0" in text:
            raise InputError(f"{self.path}: the header has a NUL byte; the file is damaged or not text")
        try:
            return next(csv.reader([text], delimiter=self.dialect.delimiter))
        except csv.Error as error:
            raise InputError(
                f"{self.path}: the header (line {block.lines[0]}) cannot be read: {error}. "
                "Is it a CSV file whose first line names the columns?"
            ) from None

    def _all_blocks(self, digest: Digest | None = None) -> Iterator[Block]:
        chunks: Iterator[bytes] = self._chunks(digest)
        if self._skip:
            chunks = _without_lines(chunks, self._skip)
        delimiter = self.dialect.delimiter.encode()
        return split(chunks, delimiter, self.dialect.max_row_bytes, first_line=self._skip + 1)

    def _chunks(self, digest: Digest | None) -> Generator[bytes]:
        """The file as UTF-8 without a byte order mark."""
        with _open(self.path) as stream:
            chunks = self._raw_chunks(stream, digest)
            if self.dialect.encoding not in ("utf-8", "utf-8-sig"):
                chunks = transcode(chunks, self.dialect.encoding)
            try:
                yield next(chunks, b"").removeprefix(_BOM)
                yield from chunks
            except UnicodeError as error:
                # UTF-32 without its byte order mark, which only the user can make good.
                raise InputError(
                    f"{self.path} is not {self.dialect.encoding}: {error}. Name its encoding with --encoding"
                ) from None

    def _raw_chunks(self, stream: BinaryIO, digest: Digest | None) -> Iterator[bytes]:
        while True:
            try:
                chunk = stream.read(CHUNK_BYTES)
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


_T = TypeVar("_T")


def _ahead(items: Iterator[_T]) -> Generator[_T]:
    """The same items; the next one is made in a thread while one is worked on."""
    with ThreadPoolExecutor(1, "reader") as reader:
        following = reader.submit(next, items, None)
        while (item := following.result()) is not None:
            following = reader.submit(next, items, None)
            yield item


def usable_name(name: str, suffix: str = "") -> str:
    """A name that every file system takes, made from a file's name: in UTF-8, of 255 bytes at most.

    A name that is too long is cut, and gets digits of its hash, so that two of them stay apart.
    """
    plain = printable(name) + suffix
    if len(plain.encode()) <= _NAME_BYTES:
        return plain
    suffix = f"~{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}{suffix}"
    return printable(name).encode()[: _NAME_BYTES - len(suffix)].decode(errors="ignore") + suffix


def has_writer(path: Path) -> bool:
    """Whether a program has a file open for writing, as far as this computer's kernel tells.

    Linux tells the owner of a file on a local file system, and root; elsewhere the answer is no.
    """
    if sys.platform != "linux":
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # Who opens it for writing in this moment has a signal sent to us; this one is ignored by default.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False  # another's file, or a file system without leases
    finally:
        os.close(descriptor)
    return False


def ends_with_line(path: Path, size: int | None = None) -> bool:
    """Whether a file, or its first `size` bytes, ends with a line end, in any encoding.

    An empty file does not; of one that cannot be read others will tell.
    """
    try:
        with path.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END) if size is None else size
            stream.seek(max(0, end - 4))
            last = stream.read(min(4, end))
    except OSError:
        return True
    return last.rstrip(b"\0").endswith((b"\n", b"\r"))


def begins_with(path: Path, size: int, sha256: str, beat: Callable[[], None]) -> bool:
    """Whether the first bytes of a file are those of this hash, so that it has only grown."""
    digest, left = hashlib.sha256(), size
    try:
        with path.open("rb") as stream:
            while left and (chunk := stream.read(min(left, CHUNK_BYTES))):
                digest.update(chunk)
                left -= len(chunk)
                beat()
    except OSError:
        return False
    return not left and digest.hexdigest() == sha256


def _without_lines(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """What is behind the first lines, whatever is in them; nothing if there are not so many."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        position = 0
        while count and (end := LINE_END.search(rest, position)):
            if end.group() == b"\r" and end.end() == len(rest):
                break  # half of a CRLF, perhaps
            position, count = end.end(), count - 1
        if not count:
            yield rest[position:]
            yield from chunks
            return
        rest = b"\r" if rest.endswith(b"\r") else b""


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep other producers on this computer away from a file; the kernel ends it with the process.

    On a file system without locks it does nothing.

    Raises:
        BusyError: another producer has the file.
        InputError: it cannot be opened.
    """
    with _open(path) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"{path} is being published by another lakefeed-producer on this computer. "
                "Wait until that one has ended"
            ) from None
        except OSError as error:
            log.warning("%s cannot be locked (%s): publish it from one place only", path, error.strerror)
        yield


def _open(path: Path) -> BinaryIO:
    if str(path) == "-":
        raise InputError(
            "- (standard input) cannot be published: a file is read twice, the first time to find the "
            "columns' types. Save it to a file first"
        )
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            # To open a pipe would wait for its writer.
            raise InputError(f"{path} is no regular file. A file is read twice: save it to a file first")
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


def _check_is_text(path: Path, start: bytes, dialect: Dialect) -> None:
    for magic, kind, advice in _MAGIC:
        if start.startswith(magic):
            raise InputError(f"{path} is not a CSV file but {kind}. {advice}")
    text = start.removeprefix(_BOM).lstrip()
    for magic, kind, advice in _MARKUP if not dialect.skip else []:
        if text.lower().startswith(magic):
            raise InputError(f"{path} is not a CSV file but {kind}. {advice}")
    if not dialect.skip and _is_json(text):
        raise InputError(f"{path} is not a CSV file but JSON. Convert it to CSV")
    if dialect.encoding.startswith(("utf-16", "utf-32")):
        return
    # Mostly ASCII, UTF-16 has a NUL in every second place.
    nuls = start[:200:2].count(0), start[1:200:2].count(0)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or max(nuls) > 4 * min(nuls) + len(start[:200]) // 4:
        raise InputError(f"{path} looks like UTF-16 text. Publish it with --encoding utf-16")
    if start.count(0) > len(start) // 10:
        raise InputError(f"{path} is not a text file: it is full of NUL bytes")


def _is_json(text: bytes) -> bool:
    """Whether the first line is all of a JSON object or array, or opens one that goes over several lines."""
    line = text.partition(b"\n")[0].strip()
    if line in (b"{", b"[", b"[{"):
        return True
    if not line.startswith((b"{", b"[")):
        return False
    try:
        json.loads(line.removesuffix(b","))
    except ValueError:
        return False
    return True


# ---- other encodings ------------------------------------------------------------------------
#
# The splitter and pandas see UTF-8 only. A byte that the file's encoding does not know becomes a
# lone surrogate, which is no valid UTF-8: so only its row is rejected, and `original` can bring
# the byte back.


def _mark_undecodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


def _restore_undecodable(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return bytes(ord(mark) & 0xFF for mark in error.object[error.start : error.end]), error.end


codecs.register_error("lakefeed-mark", _mark_undecodable)
codecs.register_error("lakefeed-restore", _restore_undecodable)


def transcode(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Turn text of another encoding into UTF-8; undecodable bytes become invalid UTF-8."""
    decoder = codecs.getincrementaldecoder(encoding)("lakefeed-mark")
    for chunk in chunks:
        yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
    yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")


def original(row: bytes, encoding: str) -> bytes:
    """The bytes that a row had in its file, from what `transcode` made of them."""
    if encoding in ("utf-8", "utf-8-sig"):
        return row
    text = row.decode("utf-8", "surrogatepass")
    try:
        return text.encode(encoding, "lakefeed-restore")
    except UnicodeEncodeError:
        return row
