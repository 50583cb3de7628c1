"""Whatever records arrive, in any portions: batches hold each of them once, in order, within their limits."""

from __future__ import annotations

import gzip
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakefeed_common.errors import InputError
from lakefeed_common.lake.lines import from_line
from lakefeed_common.lake.metadata import BatchMetadata, hash_of
from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.sink.batches.batch import Batch
from lakefeed_consumer.sink.batches.chain import Chain, Limits

P0 = Partition("t", 0)
DAY_MS = 86_400_000

values = st.sampled_from(
    [b"{}", b'{"a":1}', b'{"a":{"b":2}} ', b"no", None, b'{"_KAFKA":1}', b'{"a":"%s"}' % (b"x" * 90)]
)
parts = st.tuples(st.integers(1, 3), st.integers(-1, 3 * DAY_MS), values, st.none() | st.binary(max_size=3))


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    offset, log = draw(st.integers(0, 5)), []
    for gap, timestamp, value, key in draw(st.lists(parts, min_size=1, max_size=40)):
        offset += gap
        log.append(Record(P0, offset, timestamp, key, value))
    return log


def records_of(batch: Batch) -> list[Record]:
    """The records of a batch, its dead letters included."""
    found = [from_line("t", line) for line in batch.lines] + [each.record for each in batch.dead_letters]
    return sorted(found, key=lambda record: record.offset)


def puts(chain: Chain, batches: list[Batch]) -> None:
    """Put all batches that have ended."""
    while (batch := chain.next()) is not None:
        batches.append(batch)
        assert chain.answer(batch, None).outcome == "stored"


@settings(max_examples=200, deadline=None)
@given(logs(), st.integers(1, 8), st.integers(1, 300), st.integers(1, 9))
def test_batches_hold_each_record_once_in_order(
    log: list[Record], count: int, size: int, portion: int
) -> None:
    chain, batches = Chain(P0, 0, Limits(size, count)), list[Batch]()
    for start in range(0, len(log), portion):
        chain.take(log[start : start + portion])
        puts(chain, batches)
    chain.seal()
    puts(chain, batches)
    assert [record for batch in batches for record in records_of(batch)] == log
    assert (chain.position, chain.records, chain.size) == (log[-1].offset + 1, 0, 0)
    position = 0
    for batch in batches:
        records = records_of(batch)
        assert (batch.start, batch.first, batch.end) == (position, records[0], records[-1].offset + 1)
        assert len(records) <= count
        assert len({record.timestamp_ms // DAY_MS for record in records}) == 1
        assert sum(map(len, batch.lines[:-1])) < size
        position = batch.end


@settings(max_examples=200, deadline=None)
@given(logs(), st.integers(1, 8), st.data())
def test_what_another_worker_has_stored_is_dropped_and_nothing_else(
    log: list[Record], count: int, data: st.DataObject
) -> None:
    chain = Chain(P0, 0, Limits(10_000, count))
    taken = data.draw(st.integers(1, len(log)))
    chain.take(log[:taken])
    chain.seal()
    batch = chain.next()
    assert batch is not None
    # A batch of theirs has the same first record, and ends behind any record of that day.
    end = data.draw(st.sampled_from([record.offset + 1 for record in log]))
    theirs = BatchMetadata(end, 1, 0, hash_of(batch.first), "").to_dict()
    answer = chain.answer(batch, theirs)
    assert answer.outcome == "adopted"
    assert sum(answer.dropped) == sum(record.offset < end for record in log[:taken])
    if log[taken:]:
        chain.take(log[taken:])
    chain.seal()
    rest: list[Batch] = []
    puts(chain, rest)
    assert [record for each in rest for record in records_of(each)] == [
        record for record in log if record.offset >= end
    ]
    assert chain.position == max(end, log[-1].offset + 1)


def test_the_body_is_gzip_of_the_lines_and_the_metadata_describes_it() -> None:
    chain = Chain(P0, 0, Limits(10_000, 10))
    chain.take([Record(P0, offset, 5, b"k", b'{"a":1}') for offset in range(3)])
    chain.seal()
    batch = chain.next()
    assert batch is not None
    body, metadata = batch.encode()
    assert gzip.decompress(body) == b"".join(batch.lines)
    assert (metadata.end, metadata.records, metadata.first_timestamp_ms) == (3, 3, 5)
    assert batch.encode() == (body, metadata), "the same body each time"


def test_a_conflict_whose_key_has_no_batch_is_an_error() -> None:
    chain = Chain(P0, 0, Limits(10_000, 10))
    chain.take([Record(P0, 0, 5, None, b"{}")])
    chain.seal()
    batch = chain.next()
    assert batch is not None
    assert chain.answer(batch, {}).outcome == "conflict"
    conflict = chain.next()
    assert conflict == replace(batch, conflict=True)
    with pytest.raises(InputError, match="partition 0: the object that should hold the conflict at 0"):
        chain.answer(conflict, {})


def test_offsets_that_are_not_greater_are_refused() -> None:
    chain = Chain(P0, 0, Limits(10_000, 10))
    chain.take([Record(P0, 4, 5, None, b"{}")])
    with pytest.raises(ValueError, match="offset 4 after 4"):
        chain.take([Record(P0, 4, 5, None, b"{}")])
