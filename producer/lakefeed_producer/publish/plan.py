"""Plans the publishing of a file: its column types, its rows, its key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lakefeed_common.errors import SettingsError
from lakefeed_producer.csv.column_types import ColumnType, schema_columns
from lakefeed_producer.csv.file import CsvFile, Dialect
from lakefeed_producer.csv.rows import infer_types
from lakefeed_producer.csv.splitter import Block
from lakefeed_producer.settings import ProducerSettings

# This many delimiters in quoted lines that look like rows are no coincidence.
_SUSPICIOUS_DELIMITERS = 8


@dataclass(frozen=True)
class FileOptions:
    """How each file is read.

    Attributes:
        dialect: how files are written.
        schema: given types by column name.
        key: name of the key's column, as in the file or in the events.
        rate: events per second; unlimited if None.
        limit: the last data row to publish; all if None.
    """

    dialect: Dialect
    schema: dict[str, ColumnType]
    key: str | None = None
    rate: float | None = None
    limit: int | None = None

    @classmethod
    def of(cls, settings: ProducerSettings, limit: int | None = None) -> FileOptions:
        """The options in the settings.

        Raises:
            SettingsError: the schema file cannot be used.
        """
        dialect = Dialect(
            delimiter=settings.delimiter,
            encoding=settings.encoding,
            column_names=settings.column_names,
            max_row_bytes=settings.max_row_bytes,
            quoting=settings.quoting,
            nulls=tuple(text.encode() for text in settings.null_texts),
            skip=settings.skip,
        )
        schema = read_schema(settings.schema_file) if settings.schema_file else {}
        return cls(dialect, schema, settings.key, settings.rate, limit)


def read_schema(path: Path) -> dict[str, ColumnType]:
    """Read a schema file: a JSON object of column names and their types.

    Raises:
        SettingsError: it cannot be read, is not such an object, or has an unknown type.
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
            raise SettingsError(f"{where}: {column}: {kind!r} is not a type. The types are {kinds}")
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


@dataclass(frozen=True)
class Plan:
    """What is published of a file, and how.

    Attributes:
        file: the CSV file.
        types: the type of each column.
        total: data rows of the file.
        sha256: of the file's bytes.
        given: the types that the user has given, by column index.
        key: index of the column that becomes the key, if any.
        rate: events per second; unlimited if None.
        limit: the last data row to publish; all if None.
        warning: what the user should know about the content; empty if nothing.
    """

    file: CsvFile
    types: Sequence[ColumnType]
    total: int
    sha256: str
    given: Mapping[int, ColumnType] = field(default_factory=dict)
    key: int | None = None
    rate: float | None = None
    limit: int | None = None
    warning: str = ""

    @property
    def rows(self) -> int:
        """Data rows up to the limit."""
        return self.total if self.limit is None else min(self.total, self.limit)


def plan_file(file: CsvFile, options: FileOptions, *, beat: Callable[[], None] = lambda: None) -> Plan:
    """Read the whole file once, and plan its publishing.

    Args:
        file: the CSV file.
        options: how it is read.
        beat: called after each block; may raise to stop.

    Raises:
        SettingsError: the schema or the key names a column that the file does not have.
        InputError: the file cannot be read.
    """
    given, key = check_columns(file, options)
    digest = hashlib.sha256()
    quotes = _QuotedLines(file)
    types, total = infer_types(file, given, beat, digest, quotes.count)
    return Plan(
        file,
        types,
        total,
        digest.hexdigest(),
        given=given,
        key=key,
        rate=options.rate,
        limit=options.limit,
        warning=quotes.warning(),
    )


@dataclass
class _QuotedLines:
    """Detects a file whose quotes are ordinary characters, so that a field swallows rows to the next quote.

    A quoted text may have lines that look like rows as well. The more delimiters such lines have, the fewer
    of them are needed for a warning.
    """

    file: CsvFile
    lines: int = 0
    rows: int = 0

    def count(self, block: Block) -> None:
        """Count the lines in the quoted fields of some records."""
        self.lines += block.lines_in_quotes
        self.rows += block.rows_in_quotes

    def warning(self) -> str:
        """What the user should know about all records; empty if nothing."""
        # Commas are common in texts, tabs are not.
        enough = 1 if self.file.dialect.delimiter == "\t" else _SUSPICIOUS_DELIMITERS
        if self.rows * (len(self.file.names) - 1) < enough or 2 * self.rows < self.lines:
            return ""
        return (
            f"{self.rows:,} {'line' if self.rows == 1 else 'lines'} within quotes look like rows, and become "
            "part of the field before. If quotes are ordinary characters in this file, use --quoting none"
        )
