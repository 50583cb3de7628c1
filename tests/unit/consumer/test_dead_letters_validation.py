"""Which records are valid events: each kind of record, and properties over any JSON."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import orjson
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lakefeed_common.lake.keys import event_key
from lakefeed_common.lake.records import Partition, Record
from lakefeed_consumer.dead_letters.format import DeadLetter
from lakefeed_consumer.dead_letters.validation import invalid_reason
from tests.helpers.broken_records import KINDS, STORED, Kind
from tests.helpers.memory_store import MemoryStore
from tests.helpers.sink_bench import Bench

ROOT = Path(__file__).resolve().parents[3]

optional_bytes = st.none() | st.binary(max_size=64)
headers = st.lists(st.tuples(st.text(max_size=8), optional_bytes), max_size=4).map(tuple)
# Random bytes are hardly ever JSON: so JSON as programs write it, intact or with a piece removed or added.
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=8)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
)
jsons = st.builds(
    lambda document, option: orjson.dumps(document, option=option),
    st.dictionaries(st.text(max_size=4), documents, max_size=4) | documents,
    st.sampled_from([0, orjson.OPT_INDENT_2, orjson.OPT_APPEND_NEWLINE]),
)
corrupted = st.builds(
    lambda value, start, length, piece: value[:start] + piece + value[start + length :],
    jsons,
    st.integers(0, 40),
    st.integers(0, 3),
    st.binary(max_size=3),
)
values = st.none() | st.binary(max_size=64) | jsons | corrupted


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_kind_of_record_is_valid_or_invalid_for_its_reason(kind: Kind) -> None:
    reason = invalid_reason(kind.value)
    if kind.outcome == STORED:
        assert reason is None
    else:
        assert kind.outcome in str(reason)


def test_the_documentation_lists_these_kinds_with_their_outcomes() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text()
    section = text.split("## Broken records\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    assert rows[0] == ("kind", "outcome")
    expected = [
        (kind.name, STORED if kind.outcome == STORED else f"dead letter: {kind.outcome}") for kind in KINDS
    ]
    assert [row for row in rows if not row[0].startswith("---")][1:] == expected


@given(value=values, key=optional_bytes, headers=headers, timestamp_ms=st.integers(-(2**63), 2**63 - 1))
@example(value=b'{"a" :1,"a":":"}', key=None, headers=(), timestamp_ms=0)
def test_a_record_becomes_an_object_or_a_dead_letter_that_restores_it(
    value: bytes | None,
    key: bytes | None,
    headers: tuple[tuple[str, bytes | None], ...],
    timestamp_ms: int,
) -> None:
    record = Record(Partition("t", 3), 7, timestamp_ms, key, value, headers)

    async def scenario() -> None:
        bench = Bench(MemoryStore())
        await bench.sink.submit([record])
        await bench.settled()
        (stored,) = bench.store.objects.items()
        if stored == (event_key("events", record), value):
            assert isinstance(orjson.loads(stored[1]), dict)
            line, *others = re.split(rb"\r\n|\r|\n", stored[1])
            assert line.strip()
            assert others in ([], [b""]), "the lines that Hadoop reads"
        else:
            assert stored[0] == event_key("dead", record)
            assert DeadLetter.parse(stored[1]).record == record
        assert bench.reported == [(record.partition, 7)]

    asyncio.run(scenario())


@given(st.dictionaries(st.text(max_size=4), documents, max_size=4))
def test_a_document_on_one_line_is_an_event_unless_its_keys_cannot_be_columns(
    document: dict[str, object],
) -> None:
    value = orjson.dumps(document)
    assert (invalid_reason(value) is not None) == is_invalid(value)


def is_invalid(value: bytes) -> bool:
    """The result, by simple and slow rules that check each key and line end."""
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError:
        return True
    twice: list[bool] = []

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        twice.append(len({name.lower() for name, _ in pairs}) < len(pairs))
        return dict(pairs)

    if not isinstance(document, dict):
        return True
    json.loads(value, object_pairs_hook=once)
    no_columns = [name for name in document if name.lower() == "dt" or len(name.encode()) > 255]
    return any(twice) or bool(no_columns) or bool(re.search(rb"[\r\n]", re.sub(rb"\r?\n?\Z", b"", value)))


@given(values.filter(lambda value: value is not None))
@example(b'{"at":"10:00:00","b":{"at":1}}')
@example(b'{"a":1,"a" :2}')
@example(b'{"a":1,"a":":"}')
@example(b'{"a":{"b":1,"b":"10:00"}}')
@example(b'{"Id":1,"id":2}')
@example(b'{"Dt":1}')
@example(b'{"a":{"dt":1},"b":":"}')
@example(b'{"a":{"dt":1},"dT":":"}')
@example(b'{"%b":1}' % ("é" * 128).encode())
@example(b'{"Id":"a:b","iD":2}')
@example(b'{"a":[[{"b":{"Id":1,"iD":{}}}]]}')
@example(b'{"\\u212a":1,"k":2}')
@example(b'{"\xce\xa3":1,"\xcf\x83":2}')
@example(b"{}\r\n")
@example(b"{}\n\r")
def test_the_result_is_that_of_the_plain_rules(value: bytes) -> None:
    assert (invalid_reason(value) is not None) == is_invalid(value)


@settings(max_examples=50)
@given(jsons.filter(lambda value: value.startswith(b"{") and b"\n" not in value), st.data())
def test_a_duplicate_key_is_found_anywhere(value: bytes, data: st.DataObject) -> None:
    name = orjson.dumps(data.draw(st.text(max_size=3)))
    inner = data.draw(
        st.sampled_from([b"%b", b'{"x":%b}', b'{"y":[1,{"z": "a:b"},%b]}', b'{"\\\\":":", "v":%b}'])
    )
    twice = b'{%b:1, "between":[%b] ,%b : 2}' % (name, value, name)
    assert "duplicate key" in str(invalid_reason(inner % twice))


@given(jsons.filter(lambda value: value.startswith(b"{") and b"\n" not in value), st.data())
def test_keys_that_differ_only_in_case_are_found_anywhere(value: bytes, data: st.DataObject) -> None:
    inner = data.draw(
        st.sampled_from([b"%b", b'{"x":%b}', b'{"y":[1,{"z": "a:b"},%b]}', b'{"\\\\":":", "v":%b}'])
    )
    assume(invalid_reason(value) is None)
    both = b'{"\xc3\x89tat":1,"%b":[%b] ,"\xc3\xa9TAT":2}' % (b"between", value)
    assert "differ only in case" in str(invalid_reason(inner % both))
