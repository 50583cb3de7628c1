"""Transcodes files of other text encodings to UTF-8, and restores the original bytes of a row.

The splitter and pandas see UTF-8 only. A byte that is not valid in the file's encoding becomes a lone
surrogate, which is not valid UTF-8: only its row is rejected, and `original_bytes` restores the byte.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator


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
    """Transcode chunks to UTF-8; undecodable bytes become invalid UTF-8."""
    decoder = codecs.getincrementaldecoder(encoding)("lakefeed-mark")
    for chunk in chunks:
        yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
    yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")


def original_bytes(row: bytes, encoding: str) -> bytes:
    """Restore the bytes that a row has in its file from its transcoded bytes."""
    if encoding in ("utf-8", "utf-8-sig"):
        return row
    text = row.decode("utf-8", "surrogatepass")
    try:
        return text.encode(encoding, "lakefeed-restore")
    except UnicodeEncodeError:
        return row
