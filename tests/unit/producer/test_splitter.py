"""The splitter: exact records, whatever the chunks."""

import csv
import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed_producer.csv.splitter import Fault, split


def records(data: bytes, chunk: int = 1 << 20, limit: int = 1 << 20) -> list[tuple[bytes, int, int, str]]:
    """Raw bytes, fields, line and fault of each record."""
    chunks = (data[at : at + chunk] for at in range(0, len(data), chunk))
    return [
        (block.raw(at), int(block.fields[at]), int(block.lines[at]), block.faults.get(at, ""))
        for block in split(chunks, b",", limit)
        for at in range(len(block))
    ]


def good(*rows: tuple[bytes, int, int]) -> list[tuple[bytes, int, int, str]]:
    return [(*row, "") for row in rows]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_ends_a_record(end: bytes) -> None:
    data = end.join([b"a,b", b"", b"1,2", b"3,4"])
    assert records(data) == good((b"a,b", 2, 1), (b"1,2", 2, 3), (b"3,4", 2, 4))
    assert records(data + end) == records(data)


def test_line_ends_and_delimiters_inside_quotes_belong_to_the_field() -> None:
    data = b'1,"x\ny,z"\r\n2,"a ""b"""\n3,""\n'
    assert records(data) == good((b'1,"x\ny,z"', 2, 1), (b'2,"a ""b"""', 2, 3), (b'3,""', 2, 4))


def test_a_quote_inside_an_unquoted_field_is_a_character() -> None:
    assert records(b'1,5" disk\n2,b"c"d\n') == good((b'1,5" disk', 2, 1), (b'2,b"c"d', 2, 2))


def test_an_open_quote_costs_its_own_line_only() -> None:
    found = records(b'1,a\n2,"open\n3,c\n4,d')
    assert found == [
        *good((b"1,a", 2, 1)),
        (b'2,"open', 0, 2, Fault.OPEN_QUOTE),
        *good((b"3,c", 2, 3), (b"4,d", 2, 4)),
    ]


def test_two_stray_quotes_do_not_merge_the_rows_between_them() -> None:
    found = records(b'1,"foo,2\n2,"bar",3\n3,baz,4\n')
    assert found[0] == (b'1,"foo,2', 0, 1, Fault.AFTER_QUOTE)
    assert found[1:] == good((b'2,"bar",3', 3, 2), (b"3,baz,4", 3, 3))


def test_text_after_a_closing_quote_is_a_fault() -> None:
    assert records(b'1,"a"b\n2,c\n') == [(b'1,"a"b', 0, 1, Fault.AFTER_QUOTE), *good((b"2,c", 2, 2))]


@pytest.mark.parametrize("chunk", [1, 100, 5_000, 1 << 20])
def test_an_open_quote_ends_at_the_limit(chunk: int) -> None:
    rows = [b"%d,%d" % (row, row) for row in range(500 if chunk == 1 else 2_000)]
    rows[3] = b'3,"3'
    found = records(b"\n".join(rows), chunk, limit=1024)
    assert found[3] == (b'3,"3', 0, 4, Fault.OPEN_QUOTE)
    assert [row[0] for row in found] == rows
    assert [row[2] for row in found] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize("chunk", [7, 1 << 20])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_row_over_the_limit_is_skipped_to_its_end(chunk: int, end: bytes) -> None:
    found = records(end.join([b"1,a", b"2," + b"x" * 5_000, b"3,c", b""]), chunk, limit=1024)
    assert [row[3] for row in found] == ["", Fault.TOO_LONG, ""]
    assert found[1][0].startswith(b"2,xxx")
    assert found[2] == (b"3,c", 2, 3, "")


def test_the_end_of_a_skipped_row_may_be_the_end_of_the_file() -> None:
    assert [row[3] for row in records(b"1,a\n" + b"x" * 5_000, 100, 1024)] == ["", Fault.TOO_LONG]


texts = st.text(st.sampled_from('ab,"\n\r é€'), max_size=6)


@given(st.lists(st.lists(texts, min_size=2, max_size=4), max_size=8), st.integers(1, 40))
def test_what_the_csv_module_writes_is_found_again(rows: list[list[str]], chunk: int) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n", quoting=csv.QUOTE_MINIMAL).writerows(rows)
    found = records(out.getvalue().encode(), chunk)
    read = [next(csv.reader(io.StringIO(raw.decode(), newline=""))) for raw, *_ in found]
    assert read == rows
    assert [fields for _, fields, _, _ in found] == [len(row) for row in rows]
    assert not any(fault for *_, fault in found)


@given(st.text(st.sampled_from('a,"\n\r'), max_size=40), st.integers(1, 12))
def test_chunks_change_nothing_and_no_byte_is_lost(text: str, chunk: int) -> None:
    data = text.encode()
    found = records(data)
    assert records(data, chunk) == found
    at = 0
    for raw, *_ in found:
        begin = data.index(raw, at)
        assert not data[at:begin].strip(b"\r\n"), "only line ends are between records"
        at = begin + len(raw)
    assert not data[at:].strip(b"\r\n")
    lines = [line for _, _, line, _ in found]
    assert np.all(np.diff(lines) > 0)


@given(st.text(st.sampled_from('a,"\n\r'), max_size=40), st.integers(1, 12))
def test_without_quoting_a_record_is_a_line(text: str, chunk: int) -> None:
    data = text.encode()
    chunks = [data[start : start + chunk] for start in range(0, len(data), chunk)]
    blocks = list(split(chunks, b",", 1 << 20, quoted=False))
    assert not any(block.faults or block.quoted for block in blocks)
    found = [block.raw(index) for block in blocks for index in range(len(block))]
    lines = [line for line in re.split(rb"\r\n|\r|\n", data) if line]
    assert found == lines
    assert [count for block in blocks for count in block.fields] == [line.count(b",") + 1 for line in lines]


@pytest.mark.parametrize(
    ("text", "lines", "rows"),
    [
        (b"1,2\n3,4", 0, 0),
        (b'1,"2\n3,4"\n5,6\n', 1, 1),
        (b'1,"2\r\n3,4\r\n5,6"\r\n', 2, 2),
        (b'1,"2\n3,4"', 1, 1),
        (b'1,"2\n3"\n4,"5\n6,7"\n', 2, 1),
        (b'1,"two\n\nlines"\n\n3,4\n', 2, 0),
        (b'"1\n2"\n', 1, 0),
        (b'1,"2\n3,4"\n5,"6\n', 1, 1),
    ],
)
def test_lines_in_quotes_that_look_like_rows_are_counted(text: bytes, lines: int, rows: int) -> None:
    for chunk in (1 << 20, 3):
        chunks = [text[start : start + chunk] for start in range(0, len(text), chunk)]
        blocks = list(split(chunks, b",", 1 << 20))
        assert sum(block.lines_in_quotes for block in blocks) == lines
        assert sum(block.rows_in_quotes for block in blocks) == rows


@given(st.text(st.sampled_from('a,"\n\r'), max_size=40))
def test_without_faults_it_agrees_with_the_csv_module(text: str) -> None:
    found = records(text.encode())
    if any(fault for *_, fault in found):
        return
    expected = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    assert [next(csv.reader(io.StringIO(raw.decode(), newline=""))) for raw, *_ in found] == expected
