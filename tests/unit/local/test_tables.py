"""What the local Athena reads of a table's objects."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from lakefeed_common.errors import InputError
from lakefeed_local.crawl.schema import glue_type, infer, sample
from lakefeed_local.ministack.tables import duckdb_type, is_json, lower_keys, relation


@pytest.mark.parametrize(
    ("hive", "duckdb"),
    [
        ("bigint", "BIGINT"),
        ("string", "VARCHAR"),
        ("varchar(10)", "VARCHAR"),
        ("decimal(10,2)", "DECIMAL(10,2)"),
        ("array<array<double>>", "DOUBLE[][]"),
        ("map<string,array<int>>", "MAP(VARCHAR, INTEGER[])"),
        (
            'struct<Id:int,s:struct<a b:decimal(3,1),c":array<string>>>',
            'STRUCT("id" INTEGER, "s" STRUCT("a b" DECIMAL(3,1), "c""" VARCHAR[]))',
        ),
    ],
)
def test_types(hive: str, duckdb: str) -> None:
    assert duckdb_type(hive) == duckdb


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (b'{"id": 1.50, "s": "A: \\"B\\": C"}', b'{"id": 1.50, "s": "A: \\"B\\": C"}'),
        (b'{"Id":1.50,"a":[{"B":12345678901234567890}],"n":null}\n{"ID":1e5}', None),
        (b'not JSON: \xff "A": 1', b'not JSON: \xff "A": 1'),
    ],
)
def test_keys_are_lower_case_and_values_as_written(tmp_path: Path, given: bytes, read: bytes | None) -> None:
    copy = tmp_path / "x"
    copy.write_bytes(given)
    assert lower_keys(copy)
    expected = read or b'{"id":1.50,"a":[{"b":12345678901234567890}],"n":null}\n{"id":1e5}'
    assert copy.read_bytes() == expected


def test_compressed_copies_are_decompressed(tmp_path: Path) -> None:
    copy = tmp_path / "0.json.gz"
    # Several members, as a writer leaves them that compresses in parts.
    copy.write_bytes(gzip.compress(b'{"Id":1}\n') + gzip.compress(b'{"id":2}\n'))
    assert lower_keys(copy)
    assert copy.read_bytes() == b'{"id":1}\n{"id":2}\n'
    copy.write_bytes(gzip.compress(b'{"id":1}\n'))
    assert lower_keys(copy)
    assert copy.read_bytes() == b'{"id":1}\n'
    copy.write_bytes(gzip.compress(b" \n"))
    assert not lower_keys(copy)
    for damaged in (b'{"id":1}', gzip.compress(b'{"id":1}')[:-4]):
        copy.write_bytes(damaged)
        with pytest.raises(InputError, match=r"0\.json\.gz is no gzip file, or damaged"):
            lower_keys(copy)


def table(tmp_path: Path, files: dict[str, str], keys: list[str]) -> tuple[dict[str, Any], list[str], Path]:
    root = tmp_path / "ministack-athena-x"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    described = {
        "StorageDescriptor": {"Location": "s3://b/t/", "Columns": [{"Name": "n", "Type": "int"}]},
        "PartitionKeys": [{"Name": key, "Type": "string"} for key in keys],
    }
    return described, [str(root / name) for name in files], root


def test_only_objects_of_partitions_are_read(tmp_path: Path) -> None:
    files = dict.fromkeys(("README.md", "dt=1/a", "dt=1/deeper/b", "dt=2/c", "dt=10/d"), "{}")
    described, copies, root = table(tmp_path, {**files, "dt=1/empty": ""}, ["dt"])
    partitions = [{"StorageDescriptor": {"Location": f"s3://b/t/dt={day}"}} for day in ("1", "2")]
    found = relation(described, copies, partitions)
    read = [name for name in (*files, "dt=1/empty") if f"'{root}/{name}'" in found]
    assert read == ["dt=1/a", "dt=1/deeper/b", "dt=2/c"]
    assert "hive_types = {'dt': VARCHAR}" in found


def test_a_table_without_rows_has_its_columns(tmp_path: Path) -> None:
    described, copies, _ = table(tmp_path, {"dt=1/a": "{}"}, ["dt"])
    empty = '(SELECT CAST(NULL AS INTEGER) AS "n", CAST(NULL AS VARCHAR) AS "dt" WHERE FALSE)'
    assert relation(described, copies, []) == empty


@pytest.mark.parametrize(
    ("parameters", "serde", "columns", "expected"),
    [
        ({"classification": "json"}, "", [{"Name": "n"}], True),
        ({"classification": "json"}, "", [], False),
        ({"classification": "csv"}, "org.openx.data.jsonserde.JsonSerDe", [{"Name": "n"}], False),
        ({}, "org.openx.data.jsonserde.JsonSerDe", [{"Name": "n"}], True),
        ({}, "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe", [{"Name": "n"}], False),
    ],
)
def test_which_tables_are_json(
    parameters: dict[str, str], serde: str, columns: list[Any], expected: bool
) -> None:
    storage = {"Columns": columns, "SerdeInfo": {"SerializationLibrary": serde}}
    assert is_json({"Parameters": parameters, "StorageDescriptor": storage}) is expected


def test_a_table_without_partitions_reads_all(tmp_path: Path) -> None:
    described, copies, _ = table(tmp_path, {"a": "{}", "x/b": "{}"}, [])
    found = relation(described, copies, [])
    assert all(copy in found for copy in copies)
    assert "hive_partitioning = false" in found


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = {"a": value} if level % 2 else [value]
    return value


@pytest.mark.parametrize("levels", [63, 64, 65, 480, 1000])
def test_a_type_ends_at_some_depth(levels: int) -> None:
    found = sample("{}\n" + "{" + '"x":' + text(levels) + ', "y": 2}')
    assert found.records == 2
    assert found.columns is not None
    kind = glue_type(found.columns["x"])
    assert kind.count("<") == min(levels, 63)
    assert ("string" in kind) == (levels > 63)
    assert glue_type(found.columns["y"]) == "int"


def text(levels: int) -> str:
    opened = "".join('{"a":' if level % 2 else "[" for level in reversed(range(levels)))
    closed = "".join("}" if level % 2 else "]" for level in range(levels))
    return f"{opened}1{closed}"


def test_nested_is_as_its_text() -> None:
    assert json.loads(text(5)) == nested(5)
    assert glue_type(infer(nested(3))) == "array<struct<a:array<int>>>"
