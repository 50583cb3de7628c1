"""Text of objects that may be compressed, which Glue and Athena know by the key."""

from __future__ import annotations

import gzip
import zlib

from lakefeed_common.errors import InputError

_SUFFIX = ".gz"
_WITH_HEADER = 16 + zlib.MAX_WBITS


def is_compressed(key: str) -> bool:
    """Whether an object is compressed."""
    return key.endswith(_SUFFIX)


def whole(key: str, body: bytes) -> bytes:
    """The text of a whole object.

    Raises:
        InputError: it is truncated or damaged.
    """
    if not is_compressed(key):
        return body
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{key} is no gzip file, or damaged: {error}") from error


def beginning(body: bytes, most: int) -> tuple[bytes, int]:
    """The beginning of the text of a gzip file; empty if it is none.

    Args:
        body: the file's beginning; it may have several members, one after the other.
        most: how many bytes of text to return at most.

    Returns:
        The text, and how many bytes of the file it is made of.
    """
    text, rest = bytearray(), body
    while rest and len(text) < most:
        member = zlib.decompressobj(_WITH_HEADER)
        try:
            text += member.decompress(rest, most - len(text))
        except zlib.error:
            break
        rest = member.unused_data if member.eof else member.unconsumed_tail
        if not member.eof:
            break
    return bytes(text), len(body) - len(rest)
