"""How the local Athena reads a JSON table: with the catalogue's columns and partitions, as Athena does.

DuckDB's own detection takes columns from the files instead: many columns of one type, or keys that most rows
lack, become one MAP, and a file beside the partitions' folders takes the partition columns away.

Loaded by `ministack_launcher` in MiniStack's own environment, so it needs the standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

_PLAIN = {
    "boolean": "BOOLEAN",
    "tinyint": "TINYINT",
    "smallint": "SMALLINT",
    "int": "INTEGER",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "float": "FLOAT",
    "real": "FLOAT",
    "double": "DOUBLE",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
}
# Where MiniStack puts a query's copies of the objects.
_COPIES = re.compile(r"(.*/ministack-athena-[^/]+/)")
_KEY = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:')


def duckdb_type(hive: str) -> str:
    """DuckDB's name of a type of the catalogue, such as `struct<id:int,tags:array<string>>`."""
    kind = hive.strip()
    outer, _, inner = kind.partition("<")
    match outer.strip().lower():
        case "array":
            return f"{duckdb_type(inner[:-1])}[]"
        case "map":
            return f"MAP({', '.join(duckdb_type(part) for part in _parts(inner[:-1]))})"
        case "struct":
            fields = (part.partition(":") for part in _parts(inner[:-1]))
            return f"STRUCT({', '.join(f'{_name(field)} {duckdb_type(of)}' for field, _, of in fields)})"
        case plain if plain.startswith("decimal"):
            return plain.upper() if "(" in plain else "DECIMAL(10,0)"
        case plain:
            return _PLAIN.get(plain, "VARCHAR")


def _parts(text: str) -> Iterator[str]:
    """The parts between the commas that stand in no brackets."""
    depth, start = 0, 0
    for position, char in enumerate(text):
        depth += (char in "<(") - (char in ">)")
        if char == "," and not depth:
            yield text[start:position]
            start = position + 1
    yield text[start:]


def _name(text: str) -> str:
    return '"' + text.strip().lower().replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def relation(table: dict[str, Any], files: Sequence[str], partitions: Iterable[dict[str, Any]]) -> str | None:
    """DuckDB's relation over the copies of a table's objects, or None when it has no rows.

    Args:
        table: a JSON table with columns, as Glue's API shows it.
        files: the copies of all objects under its location.
        partitions: the table's partitions, as Glue's API shows them; only a table with keys has any.
    """
    keys = [str(key["Name"]) for key in table.get("PartitionKeys") or []]
    location = _folder(table["StorageDescriptor"]["Location"])
    places = {
        _folder(part.get("StorageDescriptor", {}).get("Location", "")).removeprefix(location)
        for part in partitions
    }
    read = [file for file in files if not keys or _inside(file, places)]
    read = [file for file in read if lower_keys(Path(file))]
    if not read:
        return None
    # What Athena has from the partition, DuckDB takes from the folders, where they name the key.
    named = [key for key in keys if all(f"/{key}=" in file for file in read)]
    options = ["format = 'newline_delimited'", f"columns = {{{_columns(table['StorageDescriptor'])}}}"]
    types = {str(key["Name"]): str(key.get("Type", "string")) for key in table.get("PartitionKeys") or []}
    if named:
        shown = ", ".join(f"{_literal(key)}: {duckdb_type(types[key])}" for key in named)
        options.append(f"hive_partitioning = true, hive_types = {{{shown}}}")
    else:
        options.append("hive_partitioning = false")
    selected = [_name(str(column["Name"])) for column in table["StorageDescriptor"]["Columns"]]
    selected += [
        _name(key) if key in named else f"CAST(NULL AS {duckdb_type(types[key])}) AS {_name(key)}"
        for key in keys
    ]
    listed = ", ".join(_literal(file) for file in read)
    return f"(SELECT {', '.join(selected)} FROM read_json([{listed}], {', '.join(options)}))"  # noqa: S608


def _columns(storage: dict[str, Any]) -> str:
    return ", ".join(
        f"{_literal(str(column['Name']).lower())}: {_literal(duckdb_type(str(column.get('Type', 'string'))))}"
        for column in storage["Columns"]
    )


def _folder(location: str) -> str:
    return location.rstrip("/") + "/"


def _inside(file: str, places: set[str]) -> bool:
    folder = _COPIES.sub("", file, count=1).rpartition("/")[0]
    while folder:
        if f"{folder}/" in places:
            return True
        folder = folder.rpartition("/")[0]
    return False


def lower_keys(copy: Path) -> bool:
    """Write a copy's keys in lower case, as the SerDe reads them; False for a copy with nothing in it."""
    text = copy.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    if not text.strip():
        return False
    if any(key != key.lower() for key in _KEY.findall(text)):
        lines = (_lowered(line) for line in text.split("\n"))
        copy.write_bytes("\n".join(lines).encode("utf-8", errors="surrogateescape"))
    return True


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


def _lowered(line: str) -> str:
    try:
        found = json.loads(line, parse_float=_Number, parse_int=_Number, parse_constant=_Number)
        return _written(found)
    except (ValueError, RecursionError):
        # What is no JSON is for the reader to refuse.
        return line


def _written(value: Any) -> str:
    match value:
        case _Number():
            return str(value)
        case dict():
            fields = (f"{json.dumps(name.lower())}:{_written(part)}" for name, part in value.items())
            return "{" + ",".join(fields) + "}"
        case list():
            return "[" + ",".join(map(_written, value)) + "]"
        case _:
            return json.dumps(value)
