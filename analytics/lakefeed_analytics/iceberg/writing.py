"""Writes rows as Parquet files into an Iceberg table's folder, one file per day at a time."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
    schema_to_pyarrow,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema, sanitize_column_names
from pyiceberg.typedef import Record

from lakefeed_analytics.edge import explained
from lakefeed_analytics.iceberg.files import place_of
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common.tables import PARTITION_KEY

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_LEVEL = 1
_ROW_GROUP_ROWS = 256 * 1024
# A column of many different values is sooner written without a dictionary than with pyarrow's mebibyte: less
# work, and smaller files.
_DICTIONARY_BYTES = 256 * 1024
# Days that are written at the same time; each has a row group in memory.
_MOST_OPEN = 32


@dataclass(frozen=True)
class Target:
    """The table that data files are written for.

    Attributes:
        location: its folder, without a slash at its end.
        schema: with the ids of its columns.
    """

    location: str
    schema: Schema


class _Open:
    """A file that is being written."""

    def __init__(self, schema: pa.Schema) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self.writer = pq.ParquetWriter(
            self.file,
            schema,
            compression="zstd",
            compression_level=_LEVEL,
            dictionary_pagesize_limit=_DICTIONARY_BYTES,
        )
        self.waiting: list[pa.Table] = []
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        self.waiting.append(table)
        self.rows += len(table)
        if sum(map(len, self.waiting)) >= _ROW_GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            self.writer.write_table(pa.concat_tables(self.waiting), row_group_size=_ROW_GROUP_ROWS)
            self.waiting = []

    def close(self) -> None:
        self.writer.close()
        self.file.close()


class _Watched:
    """A file whose upload shows progress: a slow one is not a stall."""

    def __init__(self, file: IO[bytes], progress: Callable[[], None]) -> None:
        self._file = file
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        self._progress()
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class DataFiles:
    """The data files of one commit; what was written is in `finished` after the `with` block.

    Args:
        s3: to which they are uploaded.
        settings: sizes and places.
        progress: is called while a file is uploaded.
        target: the table.
    """

    def __init__(
        self,
        s3: S3Client,
        settings: CompactSettings,
        progress: Callable[[], None],
        target: Target,
    ) -> None:
        schema = target.schema
        self._s3 = s3
        self._progress = progress
        self._settings = settings
        self._location = target.location
        self._names = [each.name for each in schema.fields]
        # As PyIceberg does for names that Avro does not have.
        self._schema = sanitize_column_names(schema)
        self._arrow = _small(schema_to_pyarrow(self._schema))
        self._plan = compute_statistics_plan(self._schema, {})
        self._paths = parquet_path_to_id_mapping(self._schema)
        self._open: dict[str, _Open] = {}
        self._held = ExitStack()
        self.finished: list[DataFile] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._held:
            if kind is None:
                for day in list(self._open):
                    self._finish(day)

    @property
    def rows(self) -> int:
        """Rows in finished files."""
        return sum(each.record_count for each in self.finished)

    @property
    def bytes(self) -> int:
        """Size of the finished files."""
        return sum(each.file_size_in_bytes for each in self.finished)

    def add(self, day: str, table: pa.Table) -> None:
        """Write rows of a day; the table has the schema's columns, in any order."""
        if not len(table):
            return
        if day not in self._open:
            if len(self._open) >= _MOST_OPEN:
                self._finish(max(self._open, key=lambda each: self._open[each].rows))
            self._open[day] = _Open(self._arrow)
            self._held.callback(self._open[day].close)
        opened = self._open[day]
        opened.add(table.select(self._names).rename_columns(self._arrow.names).cast(self._arrow))
        if opened.file.tell() >= self._settings.compact_file_bytes:
            self._finish(day)

    def _finish(self, day: str) -> None:
        opened = self._open.pop(day)
        opened.flush()
        opened.writer.close()
        size = opened.file.tell()
        statistics: Any = data_file_statistics_from_parquet_metadata(
            opened.writer.writer.metadata, self._plan, self._paths
        )
        location = f"{self._location}/data/{PARTITION_KEY}={day}/{uuid.uuid4()}.parquet"
        bucket, key = place_of(location)
        opened.file.seek(0)
        with explained(self._settings, f"writing {location}"):
            body: Any = _Watched(opened.file, self._progress)
            self._s3.put_object(Bucket=bucket, Key=key, Body=body)
        opened.file.close()
        self.finished.append(
            DataFile.from_args(
                content=DataFileContent.DATA,
                file_path=location,
                file_format=FileFormat.PARQUET,
                partition=Record(day),
                file_size_in_bytes=size,
                sort_order_id=None,
                spec_id=0,
                equality_ids=None,
                key_metadata=None,
                **statistics.to_serialized_dict(),
            )
        )


def _small(schema: pa.Schema) -> pa.Schema:
    """The schema with Arrow's usual strings instead of its large ones; Parquet has one kind."""
    return pa.schema([each.with_type(_small_type(each.type)) for each in schema])


def _small_type(kind: Any) -> Any:
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_map(kind):
        key, item = kind.key_field, kind.item_field
        fields: Any = (key.with_type(_small_type(key.type)), item.with_type(_small_type(item.type)))
        return pa.map_(*fields)
    return kind
