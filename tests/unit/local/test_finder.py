"""What a crawl finds in objects, compressed ones among them."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from collections.abc import AsyncIterator

import pytest

from lakefeed_common.lake.lines import to_line
from lakefeed_common.lake.records import Partition, Record
from lakefeed_local.crawl.compression import beginning
from lakefeed_local.crawl.finder import FoundTable, find_table
from lakefeed_local.crawl.layout import Stored, Target
from lakefeed_local.crawl.schema import table_columns


class MemoryObjects:
    """Objects in memory."""

    def __init__(self, bodies: dict[str, bytes]) -> None:
        self._bodies = bodies

    async def objects(self, bucket: str, prefix: str) -> AsyncIterator[Stored]:
        for key, body in self._bodies.items():
            yield Stored(key, len(body))

    async def read(self, bucket: str, key: str, size: int) -> bytes:
        return self._bodies[key][:size]


def found(bodies: dict[str, bytes]) -> FoundTable:
    table = asyncio.run(find_table(MemoryObjects(bodies), Target("lake", "batches/orders/"), 10))
    assert table is not None
    return table


def lines(*offsets: int, key: bytes | None = None) -> bytes:
    partition = Partition("orders", 3)
    headers: tuple[tuple[str, bytes | None], ...] = (("source", b"x"), ("none", None)) if key else ()
    records = [Record(partition, offset, 1790000000000, key, None, headers) for offset in offsets]
    return b"".join(to_line(record, b'{"Price":%d.5}' % record.offset) for record in records)


def test_batches_have_the_columns_of_events_and_one_of_kafka() -> None:
    table = found(
        {
            "batches/orders/dt=2026-01-01/00003-0.json.gz": gzip.compress(lines(0, 1)),
            "batches/orders/dt=2026-01-02/00003-2.json.gz": gzip.compress(lines(2**31, key=b"k")),
            "batches/orders/dt=2026-01-02/00003-3.json.gz": b"not compressed",
        }
    )
    assert table_columns(table.columns or {}) == [
        {"Name": "price", "Type": "double"},
        {"Name": "_kafka", "Type": "struct<p:int,o:bigint,t:bigint,k:string,h:array<array<string>>>"},
    ]
    assert table.keys == ("dt",)
    assert table.stats.compressed
    assert table.partitions[0].stats.records == 2


def test_only_the_beginning_of_a_large_batch_is_read() -> None:
    chance = random.Random(1)
    written = [json.dumps({"n": n, "x": chance.randbytes(60).hex()}) for n in range(20_000)]
    body = gzip.compress("\n".join(written).encode(), compresslevel=1)
    partition = found({"batches/orders/dt=2026-01-01/0.json.gz": body}).partitions[0]
    assert partition.columns is not None
    assert list(partition.columns) == ["n", "x"]
    assert partition.stats.records == pytest.approx(len(written), rel=0.1)


def test_the_beginning_of_compressed_text() -> None:
    members = gzip.compress(b"one\n") + gzip.compress(b"two\n")
    assert beginning(members, 100) == (b"one\ntwo\n", len(members))
    assert beginning(members, 5)[0] == b"one\nt"
    # The file continues, or has another format.
    assert beginning(members[:-9], 100)[0].startswith(b"one\n")
    assert beginning(b"plain", 100)[0] == b""
