"""A JSON table as a relation of DuckDB: with the catalogue's columns and partitions, as Athena reads it.

DuckDB's own detection takes the columns from the files instead: many columns of one type, or keys that most
rows lack, become one MAP, and a file next to the partitions' folders removes the partition columns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lakefeed_local.crawl.compression import is_compressed, whole
from lakefeed_local.ministack.sql import literal, quoted

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
_PATH = "$path"
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
    """The parts between the commas outside of any brackets."""
    depth, start = 0, 0
    for position, char in enumerate(text):
        depth += (char in "<(") - (char in ">)")
        if char == "," and not depth:
            yield text[start:position]
            start = position + 1
    yield text[start:]


def _name(text: str) -> str:
    return quoted(text.strip().lower())


def is_json(table: dict[str, Any]) -> bool:
    """Whether a table of the catalogue has columns or partitions and is stored as JSON."""
    storage = table.get("StorageDescriptor") or {}
    kind = (table.get("Parameters") or {}).get("classification")
    if kind is None:
        kind = "json" if "json" in str(storage.get("SerdeInfo")).lower() else ""
    return kind == "json" and bool(storage.get("Columns") or table.get("PartitionKeys"))


def relation(
    table: dict[str, Any],
    files: Sequence[str],
    partitions: Iterable[dict[str, Any]],
    *,
    with_path: bool = False,
) -> str:
    """DuckDB's relation over the copies of a table's objects.

    Args:
        table: a JSON table with columns, as Glue's API shows it.
        files: the copies of all objects under its location.
        partitions: the table's partitions, as Glue's API shows them; only a table with keys has any.
        with_path: whether there is a column `$path`, the object's address; in Athena it is hidden.
    """
    columns = {
        _text(column, "Name").lower(): _type(column) for column in table["StorageDescriptor"]["Columns"]
    }
    keys = {_text(key, "Name"): _type(key) for key in table.get("PartitionKeys") or []}
    read = [file for file in _files(table, files, partitions) if lower_keys(Path(file))]
    if not read:
        empty = columns | keys | ({_PATH: "VARCHAR"} if with_path else {})
        return f"(SELECT {', '.join(_null(*each) for each in empty.items())} WHERE FALSE)"
    # Athena has a key's value from the partition, DuckDB from the folder, if that names the key.
    in_folders = {key: kind for key, kind in keys.items() if all(f"/{key}=" in file for file in read)}
    # Without a column of its own, a table of empty objects still has rows.
    given = columns or {"none": "VARCHAR"}
    shown = ", ".join(f"{literal(column)}: {literal(kind)}" for column, kind in given.items())
    options = ["format = 'newline_delimited'", "compression = 'uncompressed'", f"columns = {{{shown}}}"]
    if in_folders:
        shown = ", ".join(f"{literal(key)}: {kind}" for key, kind in in_folders.items())
        options.append(f"hive_partitioning = true, hive_types = {{{shown}}}")
    else:
        options.append("hive_partitioning = false")
    selected = [quoted(column) for column in columns]
    selected += [_name(key) if key in in_folders else _null(key, kind) for key, kind in keys.items()]
    if with_path:
        options.append(f"filename = {literal(_PATH)}")
        location = _folder(table["StorageDescriptor"]["Location"])
        copied = len(read[0]) - len(_COPIES.sub("", read[0], count=1)) + 1
        selected.append(f"{literal(location)} || substr({_name(_PATH)}, {copied}) AS {_name(_PATH)}")
    listed = ", ".join(literal(file) for file in read)
    return f"(SELECT {', '.join(selected)} FROM read_json([{listed}], {', '.join(options)}))"  # noqa: S608


def _files(
    table: dict[str, Any], files: Sequence[str], partitions: Iterable[dict[str, Any]]
) -> Sequence[str]:
    """The copies of those objects that the table has: of a table with keys, those of its partitions."""
    if not table.get("PartitionKeys"):
        return files
    location = _folder(table["StorageDescriptor"]["Location"])
    places = {
        _folder(part.get("StorageDescriptor", {}).get("Location", "")).removeprefix(location)
        for part in partitions
    }
    return [file for file in files if _inside(file, places)]


def _text(column: dict[str, Any], field: str, default: str = "") -> str:
    return str(column.get(field, default))


def _type(column: dict[str, Any]) -> str:
    return duckdb_type(_text(column, "Type", "string"))


def _null(name: str, kind: str) -> str:
    return f"CAST(NULL AS {kind}) AS {quoted(name.lower())}"


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
    """Rewrite the keys of a copy in lower case, as the SerDe reads them; False for an empty copy.

    A compressed copy becomes a plain one.

    Raises:
        InputError: it cannot be decompressed.
    """
    body = copy.read_bytes()
    text = whole(copy.name, body).decode("utf-8-sig", errors="surrogateescape")
    if not text.strip():
        return False
    if any(key != key.lower() for key in _KEY.findall(text)):
        lines = (_lowered(line) for line in text.split("\n"))
        copy.write_bytes("\n".join(lines).encode("utf-8", errors="surrogateescape"))
    elif is_compressed(copy.name):
        copy.write_bytes(text.encode("utf-8", errors="surrogateescape"))
    return True


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


def _lowered(line: str) -> str:
    try:
        found = json.loads(line, parse_float=_Number, parse_int=_Number, parse_constant=_Number)
        return _written(found)
    except (ValueError, RecursionError):
        # DuckDB reports what is not JSON.
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
