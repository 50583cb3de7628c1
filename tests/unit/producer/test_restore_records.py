"""Records from lines to record batches: as they were, whatever is in them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakefeed_common.errors import InputError
from lakefeed_common.lake.lines import to_line
from lakefeed_common.lake.records import Partition, Record
from lakefeed_producer.kafka.compression import CODECS
from lakefeed_producer.restore import lines
from lakefeed_producer.restore.lines import decode_each, decode_lines
from lakefeed_producer.restore.records import Columns, Encoder
from tests.helpers.lake_objects import some_records
from tests.helpers.memory_target import parse

PRICES = Partition("prices", 3)
Part = tuple[int, int, bytes | None, bytes, list[tuple[str, bytes | None]]]
values = st.sampled_from(
    [
        b"{}",
        b"{ }",
        b'{"a":1}',
        b'{"a":1 }',
        b'{"a":{"_kafka":{"p":3,"o":1,"t":2}}}',
        b'{"k":"\xc3\xa4,\\"h\\":["}',
        b'{"a":1} ',
    ]
)
headers = st.lists(
    st.tuples(st.sampled_from(["row", "a", '],["', "ä", ""]), st.none() | st.binary(max_size=9)), max_size=3
)
records_of = st.lists(
    st.tuples(
        st.integers(1, 1_000),
        st.sampled_from([-1, 0, 1_767_225_600_000, 253_402_300_800_000_000]) | st.integers(-1, 2**41),
        st.none() | st.binary(max_size=9),
        values,
        headers,
    ),
    min_size=1,
    max_size=30,
)


def records(
    parts: Sequence[tuple[int, int, bytes | None, bytes, list[tuple[str, bytes | None]]]],
) -> list[Record]:
    found, offset = [], -1
    for step, timestamp_ms, key, value, pairs in parts:
        offset += step
        found.append(Record(PRICES, offset, timestamp_ms, key, value, tuple(pairs)))
    return found


def text(some: Sequence[Record]) -> bytes:
    return b"".join(to_line(record, record.value or b"") for record in some)


def encoded(columns: Columns, codec: str = "none", limit: int = 1_000_000) -> list[Record]:
    """What a consumer would read, with the origin's offset, and without `lakefeed-origin`."""
    found = []
    for batch, part in Encoder("prices", codec, limit).encode(columns):
        assert len(batch.part) == len(part)
        for record in parse(batch.bytes(batch.compressed(), 1, 0, 0), "prices", 3):
            name, value = record.headers[-1]
            assert name == "lakefeed-origin"
            assert value is not None
            topic, partition, offset = value.split(b"/")
            assert (topic, partition) == (b"prices", b"3")
            found.append(record._replace(offset=int(offset), headers=record.headers[:-1]))
    return found


@settings(max_examples=60, deadline=None)
@given(records_of)
def test_records_are_as_they_were(parts: Sequence[Part]) -> None:
    some = records(parts)
    columns = decode_lines("prices", 3, text(some))
    assert columns.offsets.tolist() == [record.offset for record in some]
    assert encoded(columns) == some
    assert encoded(decode_each("prices", 3, text(some))) == some


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_and_split_gives_the_same_records(codec: str) -> None:
    some = some_records(range(500), 3)
    assert encoded(decode_lines("prices", 3, text(some)), codec, 3_000) == some


def test_the_usual_lines_are_decoded_by_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the property above would compare one way with itself."""
    monkeypatch.setattr(lines, "decode_each", lambda *_: pytest.fail("one by one"))
    for keep in ((), (("source", b"a.csv"), ("row", b"1")), (("none", None),)):
        some = [
            record._replace(headers=keep if at % 5 else ())
            for at, record in enumerate(some_records(range(99), 3))
        ]
        assert encoded(decode_lines("prices", 3, text(some))) == some
    rows = [
        Record(
            PRICES,
            at,
            1_767_225_600_000,
            b"k" * (at % 4),
            b'{"a":1}',
            (("source", b"a"), ("row", b"%d" % at)),
        )
        for at in range(8, 1200)
    ]
    assert encoded(decode_lines("prices", 3, text(rows))) == rows


@pytest.mark.parametrize(
    "damaged",
    [
        b'{"a":1}\n',
        b'{"a":1,"_kafka":{"p":3,"o":1}}\n',
        b'{"a":1,"_kafka":{"p":3,"o":1,"t":}}\n',
        b'{"a":1,"_kafka":{"p":3,"o":1,"t":2,"k":"?"}}\n',
        b'{"a":1,"_kafka":{"p":3,"o":1,"t":2,"k":"AA=A"}}\n',
        b'{"a":1,"_kafka":{"p":3,"o":1,"t":2,"h":["a"]}}\n',
        b'{"a":1,"_kafka":{"p":3,"o":1,"t":2,"h":[["a","?"]]}}\n',
        b'{"a":1,"_kafka":{"p":4,"o":1,"t":2}}\n',
        b'{"a":1,"_kafka":{"p":3,"o":1,"t":2}}}\n',
        b"\n",
    ],
)
@pytest.mark.parametrize("around", [b"", b'{"a":1,"_kafka":{"p":3,"o":0,"t":2}}\n'])
def test_damaged_lines_are_refused(damaged: bytes, around: bytes) -> None:
    with pytest.raises(InputError):
        decode_lines("prices", 3, around + damaged)
