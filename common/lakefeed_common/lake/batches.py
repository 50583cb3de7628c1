"""Bodies of batch objects: the lines of events, compressed with gzip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256

from isal import igzip, isal_zlib

from lakefeed_common.errors import InputError
from lakefeed_common.lake.metadata import BatchMetadata, hash_of
from lakefeed_common.lake.records import Record

# ISA-L takes a quarter of the CPU of zlib's fastest level, for a tenth fewer bytes. 16 more window bits: a
# gzip header.
_LEVEL, _GZIP = 1, 16 + isal_zlib.MAX_WBITS
# The library's annotation says that it is an instance.
_Error: type[Exception] = isal_zlib.error  # type: ignore[assignment]
_CHUNK_BYTES = 1 << 20


def compressed(lines: Sequence[bytes], first: Record, end: int) -> tuple[bytes, BatchMetadata]:
    """The body of a batch object, and the metadata. Takes a while: about a second for 100 MB.

    Args:
        lines: of the events.
        first: the batch's first record, be it an event or a dead letter.
        end: the position after the batch.
    """
    compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP)
    body = compressor.compress(b"".join(lines)) + compressor.flush()
    return body, BatchMetadata(end, len(lines), first.timestamp_ms, hash_of(first), sha256(body).hexdigest())


def decompressed(body: bytes, metadata: BatchMetadata) -> bytes:
    """The lines of a batch object.

    Raises:
        InputError: the body is not the one that was stored.
    """
    if sha256(body).hexdigest() != metadata.sha256:
        raise InputError("damaged: its SHA-256 is not the one in its metadata")
    try:
        lines: bytes = igzip.decompress(body)  # type: ignore[no-untyped-call]
    except (OSError, EOFError, _Error) as error:
        raise InputError(f"damaged: {error}") from error
    if (count := lines.count(b"\n")) != metadata.records:
        raise InputError(f"damaged: {count} lines instead of {metadata.records}")
    return lines


def lines_of(body: bytes) -> Iterator[bytes]:
    """The lines of a batch object in pieces of about a mebibyte, each of whole lines.

    Raises:
        InputError: the body is damaged.
    """
    rest = b""
    try:
        # gzip's members may be several.
        while body:
            member = isal_zlib.decompressobj(_GZIP)
            data = body
            while not member.eof:
                piece = member.decompress(data, _CHUNK_BYTES)
                data = member.unconsumed_tail
                if not piece and not data and not member.eof:
                    raise InputError("its body ends in the middle")
                end = piece.rfind(b"\n") + 1
                if end:
                    yield rest + piece[:end]
                    rest = piece[end:]
                else:
                    rest += piece
            body = member.unused_data
    except _Error as error:
        raise InputError(f"its body cannot be decompressed: {error}") from error
    if rest:
        raise InputError("its last line has no end")
