"""Record batches encoded from columns, read by aiokafka."""

from __future__ import annotations

import random
import struct
from typing import Any, NamedTuple

import numpy as np
import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from lakefeed_producer.csv.byte_columns import ByteColumn, ConcatColumn
from lakefeed_producer.kafka.batch import EventBatch
from lakefeed_producer.kafka.publication import Publication
from lakefeed_producer.kafka.publisher import RECORD_OVERHEAD
from lakefeed_producer.kafka.record_batches import RecordBatch, RecordBatchEncoder

PUBLICATION = Publication("café.csv".encode(), "0123456789abcdef", 3, 1_700_000_000_000)


class Event(NamedTuple):
    partition: int
    key: bytes
    value: bytes


# Lengths around those that need one more byte as a varint.
sizes = st.integers(0, 70) | st.sampled_from([127, 128, 8_191, 8_192])
events = st.builds(Event, st.integers(0, 2), sizes.map(lambda n: b"k" * n), sizes.map(lambda n: b"v" * n))


def batch(events: list[Event], first_row: int = 1, *, keyed: bool = True) -> EventBatch:
    return EventBatch(
        PUBLICATION,
        np.arange(first_row, first_row + len(events)),
        np.array([event.partition for event in events], np.int64),
        ConcatColumn.of([event.value for event in events]),
        ByteColumn.of([event.key for event in events]) if keyed else None,
        last_row=first_row + len(events) - 1,
    )


def read(records: RecordBatch, sequence: int = 0) -> list[Any]:
    """The records as aiokafka reads them."""
    data = records.bytes(records.compressed(), 4711, 2, sequence)
    # The producer's id, epoch and base sequence: https://kafka.apache.org/documentation/#recordbatch
    assert struct.unpack_from(">qhi", data, 43) == (4711, 2, sequence)
    found = MemoryRecords(data)
    one = found.next_batch()
    assert one is not None
    assert one.validate_crc()
    read = list(one)
    assert not found.has_next()
    return read


@given(
    events=st.lists(events, min_size=1, max_size=40),
    first_row=st.integers(1, 120) | st.sampled_from([9_990, 10**18 - 5]),
    keyed=st.booleans(),
    compression=st.sampled_from(["none", "gzip", "snappy", "lz4", "zstd"]),
    limit=st.sampled_from([20_000, 1_000_000]),
)
def test_another_reader_finds_what_was_sent(
    events: list[Event], first_row: int, keyed: bool, compression: str, limit: int
) -> None:
    sent = batch(events, first_row, keyed=keyed)
    encoder = RecordBatchEncoder(compression, limit)
    rows: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for part in encoder.split(sent):
        records = encoder.encode(sent, part)
        assert records.size + 61 <= limit
        found = read(records, 2**31 - 1)
        assert [one.offset for one in found] == list(range(len(part)))
        for one in found:
            [*common, (name, row)] = one.headers
            assert common == [("source", PUBLICATION.source), ("publication", PUBLICATION.mark)]
            assert name == "row"
            event = events[int(row) - first_row]
            assert (part.partition, one.value) == (event.partition, event.value)
            assert one.key == ((event.key or None) if keyed else None)
            rows[part.partition].append(int(row))
    for partition, numbers in rows.items():
        of_it = [first_row + at for at, event in enumerate(events) if event.partition == partition]
        assert numbers == of_it, "each once and in order"


@pytest.mark.parametrize("size", [1, 100, 1_000_000])
def test_the_largest_accepted_event_fits_into_a_record_batch(size: int) -> None:
    sent = batch([Event(0, b"", b"x" * size)], 10**18)
    limit = RECORD_OVERHEAD + size + len("row") + 19
    limit += len("source") + len(PUBLICATION.source) + len("publication") + len(PUBLICATION.mark)
    encoder = RecordBatchEncoder("none", limit)
    [part] = encoder.split(sent)
    records = encoder.encode(sent, part)
    assert len(records.bytes(records.compressed(), 1, 1, 1)) <= limit


def test_halves_hold_the_same_records() -> None:
    sent = batch([Event(row % 2, b"", b"%d" % row) for row in range(11)])
    encoder = RecordBatchEncoder("none", 1_000_000)
    _, part = encoder.split(sent)
    whole = encoder.encode(sent, part)
    values = [one.value for one in read(whole)]
    assert values == [b"1", b"3", b"5", b"7", b"9"]
    assert [one.value for half in whole.halves() for one in read(half)] == values


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20])
@pytest.mark.parametrize("kind", ["random", "zeros"])
def test_other_readers_accept_lz4_frames_of_any_size(size: int, kind: str) -> None:
    value = random.Random(size).randbytes(size) if kind == "random" else bytes(size)
    sent, encoder = batch([Event(0, b"", value)]), RecordBatchEncoder("lz4", 4 << 20)
    [part] = encoder.split(sent)
    assert [one.value for one in read(encoder.encode(sent, part))] == [value]
