"""Compression codecs of record batches."""

from __future__ import annotations

from lakefeed_producer.csv.byte_columns import Bytes

# By their numbers in a record batch's attributes.
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


def compress(codec: str, data: Bytes) -> bytes:
    """Compress the records of a batch as Kafka's consumers expect it."""
    from aiokafka import codec as codecs

    match codec:
        case "gzip":
            return bytes(codecs.gzip_encode(data))
        case "snappy":
            return bytes(codecs.snappy_encode(data))
        case "lz4":
            return _lz4_frame(data)
        case "zstd":
            return bytes(codecs.zstd_encode(data))
        case _:
            return data.tobytes()


def _lz4_frame(data: Bytes) -> bytes:
    """One LZ4 frame. aiokafka's function holds the interpreter's lock meanwhile, and adds checksums."""
    import lz4.frame

    # Kafka's clients read independent blocks only; the record batch has a checksum of its own.
    frame: bytes = lz4.frame.compress(
        data.data, block_size=lz4.frame.BLOCKSIZE_MAX1MB, block_linked=False, store_size=False
    )
    return frame
