"""The Iceberg table of a topic, and the one way in which it changes.

Each commit is one transaction that adds data files and moves the watermark, the table property
`lakefeed.offsets`: readers and the next compaction see both or neither. A commit is sent once. PyIceberg's
own retry would put the same rows behind another compaction's, and a retry of the SDK would take a commit
whose answer was lost for refused; instead, the caller loads the table again and decides again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import orjson
from pyiceberg.catalog.glue import GlueCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
    ValidationException,
)
from pyiceberg.io import PY_IO_IMPL
from pyiceberg.manifest import DataFile, ManifestFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table, Transaction
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BooleanType,
    DoubleType,
    IcebergType,
    IntegerType,
    LongType,
    MapType,
    NestedField,
    StringType,
    TimestamptzType,
)

from lakefeed_analytics.edge import explained
from lakefeed_analytics.iceberg.chain import Watermark
from lakefeed_analytics.iceberg.columns import (
    KAFKA_OFFSET,
    KAFKA_PARTITION,
    KAFKA_TIMESTAMP,
    OWN_COLUMNS,
    UNFIT,
    Columns,
    ColumnType,
)
from lakefeed_analytics.iceberg.files import CLIENT, S3Files
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common.errors import InputError, MissingError, UnavailableError
from lakefeed_common.tables import PARTITION_KEY

if TYPE_CHECKING:
    from mypy_boto3_glue import GlueClient
    from mypy_boto3_s3 import S3Client

OFFSETS = "lakefeed.offsets"
"""Table property: the watermarks, as JSON of partition and offset."""
CHAINED = "lakefeed.chained"
"""Table property: the partitions whose watermark is the end of a batch, as a JSON array."""
SOURCES = "lakefeed.sources"
"""Table property: the folders whose objects the table was made of, as a JSON array."""
TOPIC = "lakefeed.topic"
"""Table property: the topic whose events the table holds."""

_TYPES: dict[ColumnType, IcebergType] = {
    ColumnType.BOOLEAN: BooleanType(),
    ColumnType.LONG: LongType(),
    ColumnType.DOUBLE: DoubleType(),
    ColumnType.STRING: StringType(),
}
_PROPERTIES = {
    # Athena reads version 2.
    "format-version": "2",
    "commit.retry.num-retries": "0",
    # Each compaction adds a manifest; without this, each commit would list all of them.
    "commit.manifest-merge.enabled": "true",
    "write.parquet.compression-codec": "zstd",
}


class CommitRefusedError(UnavailableError):
    """A commit was refused, or its outcome is unknown: load the table and decide again."""


@dataclass(frozen=True)
class State:
    """The table as it was loaded.

    Attributes:
        columns: of the events.
        watermarks: by partition.
        schema: Iceberg's, with the ids of the columns.
        table: PyIceberg's.
        sources: the folders whose objects it was made of; empty for a table of an earlier version.
    """

    columns: Columns
    watermarks: Mapping[int, Watermark]
    schema: Schema
    table: Table
    sources: Sequence[str] = ()

    @property
    def location(self) -> str:
        """The table's folder, without a slash at its end."""
        return self.table.location().rstrip("/")


class LakeTable:
    """A topic's Iceberg table in Glue.

    Args:
        glue: a client whose calls have one attempt.
        s3: for metadata and manifests.
        settings: names and places.
        topic: whose events it holds.
    """

    def __init__(self, glue: GlueClient, s3: S3Client, settings: CompactSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._name = (settings.glue_database, settings.iceberg_table(topic))
        implementation = f"{S3Files.__module__}.{S3Files.__qualname__}"
        self._catalog = GlueCatalog("lakefeed", glue, **{PY_IO_IMPL: implementation, CLIENT: s3})

    @property
    def name(self) -> str:
        """The table's name in Athena."""
        return ".".join(self._name)

    @property
    def sources(self) -> list[str]:
        """The folders of the topic's objects."""
        return list(self._settings.topic_locations(self._topic))

    def check_database(self) -> None:
        """Check that the table could be created.

        Raises:
            MissingError: there is no such Glue database.
        """
        with self._translated(f"looking for the database of {self.name}"):
            self._catalog.load_namespace_properties(self._name[0])

    def load(self) -> State | None:
        """Load the table; None if there is none.

        Raises:
            InputError: it is another topic's table, or not one of this program.
        """
        try:
            with self._translated(f"loading the table {self.name}"):
                table = self._catalog.load_table(self._name)
        except MissingError:
            return None
        return self._state(table)

    def existing(self) -> State:
        """Load the table.

        Raises:
            MissingError: there is none.
            InputError: see `load`.
        """
        state = self.load()
        if state is None:
            raise MissingError(f"there is no table {self.name}; `lakefeed-analytics compact` creates it")
        return state

    def files(self) -> set[str]:
        """Locations of all files that the table refers to: metadata, manifests and data of each snapshot.

        Raises:
            MissingError: there is no table.
        """
        table = self.existing().table
        found = {table.metadata_location, *(each.metadata_file for each in table.metadata.metadata_log)}
        found.update(each.statistics_path for each in table.metadata.statistics)
        manifests: dict[str, ManifestFile] = {}
        with self._translated(f"reading the manifests of {self.name}"):
            for snapshot in table.snapshots():
                found.add(snapshot.manifest_list)
                manifests.update((each.manifest_path, each) for each in snapshot.manifests(table.io))
            for manifest in manifests.values():
                entries: Any = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
                found.update(entry.data_file.file_path for entry in entries)
        return found | manifests.keys()

    def rows(self, state: State) -> int:
        """How many rows the table has."""
        return sum(each.record_count for each in _data_files(state.table))

    def create(self, columns: Columns) -> State:
        """Create the table, or load it if another compaction has just created it.

        Raises:
            MissingError: there is no such Glue database.
        """
        fields = [NestedField(0, name, _TYPES[kind], required=False) for name, kind in columns.items()]
        # Ids are numbered by PyIceberg; a map's own ids only have to differ here.
        own: list[tuple[str, IcebergType]] = [
            (KAFKA_PARTITION, IntegerType()),
            (KAFKA_OFFSET, LongType()),
            (KAFKA_TIMESTAMP, TimestamptzType()),
            (PARTITION_KEY, StringType()),
            (UNFIT, MapType(1, StringType(), 2, StringType(), value_required=False)),
        ]
        fields = [NestedField(0, name, kind, required=False) for name, kind in own] + fields
        numbered = [
            NestedField(10 + number, each.name, each.field_type, required=False)
            for number, each in enumerate(fields)
        ]
        day = next(each.field_id for each in numbered if each.name == PARTITION_KEY)
        spec = PartitionSpec(PartitionField(day, 1000, IdentityTransform(), PARTITION_KEY))
        with self._translated(f"creating the table {self.name}"):
            try:
                table = self._catalog.create_table(
                    self._name,
                    Schema(*numbered),
                    self._settings.new_table_location(self._topic),
                    spec,
                    properties={**_PROPERTIES, TOPIC: self._topic},
                )
            except TableAlreadyExistsError:
                table = self._catalog.load_table(self._name)
        return self._state(table)

    def schema_with(self, state: State, columns: Columns) -> Schema:
        """The schema that the table will have with these columns, with their ids."""
        return self._staged(state, columns).table_metadata.schema()

    def commit(
        self,
        state: State,
        columns: Columns,
        files: Sequence[DataFile],
        watermarks: Mapping[int, Watermark],
        *,
        replace: bool = False,
    ) -> State:
        """Add files and move watermarks, both or neither.

        Args:
            state: the table as the files were made for.
            columns: the table's afterwards.
            files: written with `schema_with(state, columns)`.
            watermarks: those that move.
            replace: whether the files take the place of all files of the table.

        Raises:
            CommitRefusedError: see there.
        """
        after = {**state.watermarks, **watermarks}
        with self._translated(f"committing to the table {self.name}"):
            transaction = self._staged(state, columns)
            snapshot = transaction.update_snapshot()
            # Each commit is a snapshot, with or without files: only one can follow another.
            with snapshot.overwrite() if replace else snapshot.merge_append() as change:
                for file in _data_files(state.table) if replace else ():
                    change.delete_data_file(file)
                for file in files:
                    change.append_data_file(file)
            transaction.set_properties(
                {
                    OFFSETS: orjson.dumps({str(each): after[each].offset for each in sorted(after)}).decode(),
                    CHAINED: orjson.dumps(sorted(each for each in after if after[each].chained)).decode(),
                    SOURCES: orjson.dumps(self.sources).decode(),
                }
            )
            return self._state(transaction.commit_transaction())

    def _staged(self, state: State, columns: Columns) -> Transaction:
        """A transaction with the columns that are new, and those whose type is another one."""
        transaction = state.table.transaction()
        changed = [name for name, kind in columns.items() if state.columns.get(name, kind) is not kind]
        if changed:
            # Iceberg has no such change of types: the column is another one of the same name.
            with transaction.update_schema(allow_incompatible_changes=True) as update:
                for name in changed:
                    update.delete_column((name,))
        if added := [name for name in columns if name not in state.columns or name in changed]:
            with transaction.update_schema() as update:
                for name in added:
                    update.add_column((name,), _TYPES[columns[name]])
        return transaction

    def _state(self, table: Table) -> State:
        properties = table.properties
        if (topic := properties.get(TOPIC)) != self._topic:
            owner = f"topic {topic}" if topic else "no topic"
            raise InputError(
                f"the table {self.name} is that of {owner}, not of {self._topic}. Delete or rename it, "
                "or use another LAKEFEED_GLUE_DATABASE"
            )
        types = {str(kind): ours for ours, kind in _TYPES.items()}
        schema = table.schema()
        columns = {
            each.name: types.get(str(each.field_type), ColumnType.STRING)
            for each in schema.fields
            if each.name not in OWN_COLUMNS
        }
        chained = set(orjson.loads(properties.get(CHAINED, "[]")))
        offsets: dict[str, int] = orjson.loads(properties.get(OFFSETS, "{}"))
        watermarks = {int(each): Watermark(offset, int(each) in chained) for each, offset in offsets.items()}
        return State(columns, watermarks, schema, table, orjson.loads(properties.get(SOURCES, "[]")))

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        """Translate errors of PyIceberg and boto3."""
        try:
            with explained(self._settings, doing):
                yield
        except NoSuchNamespaceError as error:
            raise MissingError(
                f"{doing}: there is no Glue database {self._settings.glue_database}. "
                "`lakefeed-analytics ensure` creates it"
            ) from error
        except NoSuchTableError as error:
            raise MissingError(f"{doing}: there is no such table") from error
        except (CommitFailedException, ValidationException) as error:
            raise CommitRefusedError(f"{doing}: another one came first ({error})") from error


def _data_files(table: Table) -> Iterator[DataFile]:
    snapshot = table.current_snapshot()
    if snapshot is None:
        return
    for manifest in snapshot.manifests(table.io):
        for entry in manifest.fetch_manifest_entry(table.io):
            yield cast("Any", entry).data_file
