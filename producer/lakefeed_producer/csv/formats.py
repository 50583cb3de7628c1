"""Recognizes files that are not CSV by their first bytes, and says what to do with each."""

from __future__ import annotations

import json
from pathlib import Path

from lakefeed_common.errors import InputError

BOM = b"\xef\xbb\xbf"
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


def check_is_csv(path: Path, start: bytes, *, encoding: str, has_preamble: bool) -> None:
    """Refuse a file that is clearly something else.

    Args:
        path: the file, for the message.
        start: its first bytes.
        encoding: Python's name of the text encoding that the user expects.
        has_preamble: whether lines before the header are skipped; they may contain anything.

    Raises:
        InputError: the file is not CSV text in this encoding.
    """
    for magic, kind, advice in _MAGIC:
        if start.startswith(magic):
            raise InputError(f"{path} is not a CSV file but {kind}. {advice}")
    text = start.removeprefix(BOM).lstrip()
    for magic, kind, advice in _MARKUP if not has_preamble else []:
        if text.lower().startswith(magic):
            raise InputError(f"{path} is not a CSV file but {kind}. {advice}")
    if not has_preamble and _is_json(text):
        raise InputError(f"{path} is not a CSV file but JSON. Convert it to CSV")
    if encoding.startswith(("utf-16", "utf-32")):
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
