"""Values become JSON: from the file's bytes, and parsed by pandas where quotes are inside quotes."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import orjson
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lakefeed_producer.csv.byte_columns import ConcatColumn
from lakefeed_producer.csv.column_types import DEFAULT_NULLS, ColumnType
from lakefeed_producer.csv.file import CHUNK_BYTES, CsvFile, Dialect
from lakefeed_producer.csv.rows import infer_types, read_rows
from lakefeed_producer.publish.events import Encoder

NAMES = ["a", "b", "c"]
anything = st.text(st.characters(codec="utf-8", exclude_characters='\0\r\n",'), max_size=9)
usual = st.sampled_from(
    [
        *("", "0", "-0", "-1", "007", "12345678901234567", "1.50", "-0.5", "1.", ".5", "1e5", *DEFAULT_NULLS),
        *(
            "N",
            "true",
            "FALSE",
            "True",
            "\\",
            "\t",
            "\x7f",
            "é",
            "\u2028",
            "\ufeff",
            " 1",
            "-",
            "1-2",
            "1.2.3",
        ),
    ]
)
numbers = st.integers(-(10**20), 10**20).map(str) | st.floats(allow_infinity=False).map(repr)
columns = st.sampled_from([anything, usual, numbers]).flatmap(
    lambda values: st.lists(values, min_size=12, max_size=12)
)
tables = st.tuples(st.integers(1, 12), st.lists(columns, min_size=3, max_size=3))


def published(path: Path, text: str, types: list[ColumnType] | None = None) -> list[bytes]:
    """The events of a file, with inferred or given types."""
    path.write_bytes(text.encode())
    file = CsvFile(path, Dialect())
    kinds, _ = infer_types(file, {})
    encoder = Encoder(NAMES, types or kinds)
    found: list[bytes] = []
    for rows in read_rows(file):
        assert not rows.rejects
        found += encoder.encode(rows.columns, plain=rows.is_plain).to_list()
    return found


def expected(rows: list[tuple[str, ...]], types: list[ColumnType]) -> list[bytes]:
    def literal(text: str, kind: ColumnType) -> bytes:
        if not text or (kind is not ColumnType.STRING and text in DEFAULT_NULLS):
            return b"null"
        if kind is ColumnType.STRING:
            return orjson.dumps(text)
        return text.lower().encode() if kind is ColumnType.BOOLEAN else text.encode()

    return [
        b"{"
        + b",".join(
            b'"%b":%b' % (name.encode(), literal(text, kind))
            for name, text, kind in zip(NAMES, row, types, strict=True)
        )
        + b"}"
        for row in rows
    ]


@given(table=tables)
@example(table=(2, [["1", "2"], ["x", ""], ["NaN", "1.5"]]))
@example(table=(3, [["null", "2", "-7"], ["NA", "true", "False"], ["NULL", "x", "None"]]))
@example(table=(2, [["1.#IND", "-1"], ["-nan", ""], ["nul", "1"]]))
@example(table=(2, [["true", ""], ["FALSE", "True"], ["é", "\\"]]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_quotes_change_nothing(table: tuple[int, list[list[str]]], tmp_path: Path) -> None:
    count, values = table
    rows = list(zip(*(column[:count] for column in values), strict=True))
    quoted = io.StringIO()
    csv.writer(quoted, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows([NAMES, *rows])
    by_pandas = published(tmp_path / "quoted.csv", quoted.getvalue())
    plain = "".join(",".join(row) + "\n" for row in [tuple(NAMES), *rows])
    assert published(tmp_path / "plain.csv", plain) == by_pandas
    types, _ = infer_types(CsvFile(tmp_path / "plain.csv", Dialect()), {})
    assert by_pandas == expected(rows, types)


def test_declared_null_values_are_null_in_every_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for quote in ("", '"'):
        rows = [("-", "-", "-999"), ("1", "x", "5"), ("--", "--", "NA"), ("2", "番", "-99")]
        path.write_text("a,b,c\n" + "".join(",".join(quote + v + quote for v in row) + "\n" for row in rows))
        file = CsvFile(path, Dialect(nulls=(b"-", b"--", b"-999", "番".encode())))
        types, _ = infer_types(file, {})
        assert types == [ColumnType.INTEGER, ColumnType.STRING, ColumnType.INTEGER]
        for schema in ({}, {0: ColumnType.INTEGER, 2: ColumnType.INTEGER}):
            [read] = read_rows(file, given=schema)
            assert not read.rejects
            encoder = Encoder(NAMES, types, file.dialect.nulls)
            assert encoder.encode(read.columns, plain=False).to_list() == [
                b'{"a":null,"b":null,"c":null}',
                b'{"a":1,"b":"x","c":5}',
                b'{"a":null,"b":null,"c":null}',
                b'{"a":2,"b":null,"c":-99}',
            ]


def test_line_ends_and_other_rows_between_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b,c\r\n1,x,\r\n\n\n2,y\n3,,z\r,,\r\n5,\xff,\n6,,7,8\n9,end,of\n")
    file = CsvFile(path, Dialect())
    types, total = infer_types(file, {})
    assert (types, total) == ([ColumnType.INTEGER, ColumnType.STRING, ColumnType.STRING], 7)
    [rows] = read_rows(file)
    assert Encoder(NAMES, types).encode(rows.columns, plain=rows.is_plain).to_list() == [
        b'{"a":1,"b":"x","c":null}',
        b'{"a":3,"b":null,"c":"z"}',
        b'{"a":null,"b":null,"c":null}',
        b'{"a":9,"b":"end","c":"of"}',
    ]
    assert [one.row for one in rows.rejects] == [2, 5, 6]


def test_a_wide_file_is_one_block(tmp_path: Path) -> None:
    # Each block has a cost per column, and this file has more columns than rows.
    columns, values = 5_000, ("12.5", "text, more", 'a ""b""', "", "back\\slash")
    lines = [",".join(f'"column {number}"' for number in range(columns))]
    lines += [",".join(f'"{values[(row + n) % 5]}"' for n in range(columns)) for row in range(20)]
    (tmp_path / "wide.csv").write_text("\n".join(lines) + "\n")
    file = CsvFile(tmp_path / "wide.csv", Dialect())
    assert file.version.size > CHUNK_BYTES
    [block] = file.blocks()
    assert len(block) == 20
    types, _ = infer_types(file, {})
    [rows] = read_rows(file)
    assert len({id(column.data) for column in rows.columns}) == 1
    encoded = Encoder(file.names, types).encode(rows.columns, plain=False)
    assert encoded.materialized().to_list() == encoded.to_list()
    event = orjson.loads(encoded.to_list()[7])
    expected_values = [values[(7 + n) % 5].replace('""', '"') or None for n in range(columns)]
    assert list(event.values()) == expected_values


def test_many_values_are_concatenated_like_few() -> None:
    texts = [b"x" * (number * 7 % 300) for number in range(1_000)]
    both = ConcatColumn(
        [b"<", *ConcatColumn.of(texts).parts, b">", *ConcatColumn.of(texts[::-1]).parts], len(texts)
    )
    assert both.to_list() == [
        b"<" + one + b">" + other for one, other in zip(texts, texts[::-1], strict=True)
    ]
    assert both.take(slice(5, 7)).to_list() == both.to_list()[5:7]
