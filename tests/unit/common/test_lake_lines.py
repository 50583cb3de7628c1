from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed_common.errors import InputError
from lakefeed_common.lake.lines import from_line, to_line
from lakefeed_common.lake.records import Partition, Record

PRICES = Partition("prices", 3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
HEADERS = st.lists(st.tuples(st.text(), st.none() | st.binary()), max_size=3).map(tuple)


def record(value: bytes) -> Record:
    return Record(PRICES, 42, 1_790_000_000_000, None, value, ())


def test_a_line_is_the_events_own_bytes_with_what_kafka_knows_of_it() -> None:
    event = record(b'{"date":"2017-01-03","close":62.58}')
    assert to_line(event, event.value or b"") == (
        b'{"date":"2017-01-03","close":62.58,"_kafka":{"p":3,"o":42,"t":1790000000000}}\n'
    )


def test_key_and_headers_are_in_base64() -> None:
    event = Record(PRICES, 1, 2, b"k", b'{"a":1}', (("source", b"a.csv"), ("none", None)))
    assert orjson.loads(to_line(event, b'{"a":1}')) == {
        "a": 1,
        "_kafka": {"p": 3, "o": 1, "t": 2, "k": "aw==", "h": [["source", "YS5jc3Y="], ["none", None]]},
    }


@pytest.mark.parametrize(
    "value",
    [
        b"{}",
        b"{ }",
        b" {\t} ",
        b'{"a":1}',
        b'{"a":1 }\n',
        b'{"a":{}}\r\n',
        b'{"a":{"_kafka":{"p":1}}}',
        b'{"a":"{"}',
        b'{"a":"\\"_kafka\\":{\\"p\\":"}',
    ],
)
def test_an_event_is_cut_out_of_its_line_byte_for_byte(value: bytes) -> None:
    line = to_line(record(value), value)
    assert line.count(b"\n") == 1
    orjson.loads(line)
    assert from_line("prices", line) == record(value)


@given(st.dictionaries(st.text().filter(lambda key: key != "_kafka"), JSON), st.none() | st.binary(), HEADERS)
def test_every_record_survives_its_line(
    document: dict[str, object], key: bytes | None, headers: tuple[tuple[str, bytes | None], ...]
) -> None:
    value = orjson.dumps(document)
    before = Record(PRICES, 2**63 - 1, -1, key, value, headers)
    line = to_line(before, value)
    assert from_line("prices", line) == before
    inner = orjson.loads(line)
    del inner["_kafka"]
    assert inner == document


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b'{"a":1,"_kafka":{"p":0}}', b'{"_kafka":{"p":0,"o":1,"t":2,"k":"?"}}', b'{"_kafka":{"p":'],
)
def test_a_line_that_is_damaged_is_an_input_error(line: bytes) -> None:
    with pytest.raises(InputError):
        from_line("prices", line)
