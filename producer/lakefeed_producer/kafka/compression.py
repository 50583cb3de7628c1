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


# A frame of independent blocks of up to 1 MiB, without checksums: the record batch has its own.
_LZ4_FRAME, _LZ4_END, _LZ4_BLOCK_BYTES = bytes.fromhex("04224d18 60 60 51"), bytes(4), 1 << 20
_LZ4_UNCOMPRESSED = 1 << 31


def _lz4_frame(data: Bytes) -> bytes:
    """One LZ4 frame. aiokafka's function holds the interpreter's lock meanwhile, and adds checksums.

    The format is that of https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md.
    """
    import cramjam

    frame = [_LZ4_FRAME]
    for begin in range(0, len(data), _LZ4_BLOCK_BYTES):
        block = data[begin : begin + _LZ4_BLOCK_BYTES]
        packed = bytes(cramjam.lz4.compress_block(block.data, store_size=False))
        if len(packed) < len(block):
            frame += [len(packed).to_bytes(4, "little"), packed]
        else:
            frame += [(len(block) | _LZ4_UNCOMPRESSED).to_bytes(4, "little"), block.tobytes()]
    return b"".join([*frame, _LZ4_END])
