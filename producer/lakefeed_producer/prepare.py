"""What must be known before the first event of a file goes out: its types, its rows, its key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lakefeed_common.errors import SettingsError
from lakefeed_producer.columns import ColumnType, schema_columns
from lakefeed_producer.publish import Plan
from lakefeed_producer.rows import find_types
from lakefeed_producer.settings import ProducerSettings
from lakefeed_producer.source import CsvFile, Dialect


@dataclass(frozen=True)
class FileOptions:
    """What the user wants of every file.

    Attributes:
        dialect: how files are written.
        schema: given types by column name.
        key: name of the key's column, as in the file or in the events.
        rate: events a second, if limited.
        limit: last data row to be published.
    """

    dialect: Dialect
    schema: dict[str, ColumnType]
    key: str | None = None
    rate: float | None = None
    limit: int | None = None

    @classmethod
    def of(cls, settings: ProducerSettings, limit: int | None = None) -> FileOptions:
        """Those of the settings.

        Raises:
            SettingsError: the schema file cannot be used.
        """
        dialect = Dialect(
            settings.delimiter,
            settings.encoding,
            settings.column_names,
            settings.max_row_bytes,
            settings.skip,
        )
        schema = read_schema(settings.schema_file) if settings.schema_file else {}
        return cls(dialect, schema, settings.key, settings.rate, limit)


def read_schema(path: Path) -> dict[str, ColumnType]:
    """Read a schema file: a JSON object of column names and their types.

    Raises:
        SettingsError: it cannot be read, is not such an object, or names an unknown type.
    """
    where = f"the schema file {path}"
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{where} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{where} is not JSON: {error}") from None
    kinds = ", ".join(ColumnType)
    if not isinstance(content, dict):
        raise SettingsError(
            f'{where} must be a JSON object of columns and types, such as {{"price": "number"}}'
        )
    for column, kind in content.items():
        if kind not in list(ColumnType):
            raise SettingsError(f"{where}: {column}: {kind!r} is no type. There are {kinds}")
    return {column: ColumnType(kind) for column, kind in content.items()}


def check_columns(file: CsvFile, options: FileOptions) -> tuple[dict[int, ColumnType], int | None]:
    """The given types and the key's column, by column index.

    Raises:
        SettingsError: the schema or the key names a column that the file does not have.
    """
    given, unknown = schema_columns(options.schema, file.header, file.names)
    columns = f"{file.path} has the columns {', '.join(file.header)}"
    if unknown:
        raise SettingsError(f"the schema names {_listed(unknown)}, and {columns}. Correct --schema")
    if options.key is None:
        return given, None
    for names in (file.header, file.names):
        if options.key in names:
            return given, list(names).index(options.key)
    raise SettingsError(f"--key {options.key}: {columns}")


def _listed(names: Sequence[str]) -> str:
    return ("the columns " if len(names) > 1 else "the column ") + ", ".join(map(repr, names))


def plan(
    file: CsvFile,
    options: FileOptions,
    *,
    beat: Callable[[], None] = lambda: None,
) -> Plan:
    """Look at the whole file once.

    Args:
        file: the CSV file.
        options: what the user wants.
        beat: called after each block; may raise to break off.

    Raises:
        SettingsError: the schema or the key names a column that the file does not have.
        InputError: the file cannot be read.
    """
    given, key = check_columns(file, options)
    digest = hashlib.sha256()
    types, total = find_types(file, given, beat, digest)
    return Plan(file, types, total, digest.hexdigest(), given, key, options.rate, options.limit)
