"""Maintains an Iceberg table: small files and old snapshots through Athena, orphan files by their age.

Killed or refused compactions leave files that no snapshot refers to. They are removed when they are older
than any compaction can be, and only from a folder that no other table uses.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import compress
from typing import TYPE_CHECKING, Any

import orjson

from lakefeed_analytics.edge import explained
from lakefeed_analytics.iceberg.files import place_of
from lakefeed_analytics.iceberg.table import LakeTable
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common.errors import MissingError, RefusedError, UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MOST_DELETED = 1000  # https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
_METADATA = (".metadata.json", ".metadata.json.gz")
_CONNECTIONS = 16
# PyIceberg and Athena write it among the first fields, before anything long.
_HEAD_BYTES = 4096
_UUID = re.compile(rb'"table-uuid"\s*:\s*"([^"]+)"')


def statements(table: str) -> tuple[str, str]:
    """Athena's statements that rewrite small files, and remove old snapshots with their files."""
    # https://docs.aws.amazon.com/athena/latest/ug/querying-iceberg-data-optimization.html
    return f'OPTIMIZE "{table}" REWRITE DATA USING BIN_PACK', f'VACUUM "{table}"'


@dataclass(frozen=True)
class Orphan:
    """A file that the table does not refer to."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Orphans:
    """Files in a table's folder that no snapshot refers to.

    Attributes:
        bucket: of the table.
        files: old enough to be removed.
    """

    bucket: str
    files: list[Orphan]


def orphans(
    s3: S3Client, settings: CompactSettings, table: LakeTable, now: datetime | None = None
) -> Orphans:
    """The files in the table's folder that no snapshot refers to, older than the setting says.

    Raises:
        MissingError: there is no table.
        RefusedError: the folder has files of another table.
    """
    oldest = (now or datetime.now(UTC)) - timedelta(days=settings.orphan_days)
    state = table.existing()
    bucket, prefix = place_of(state.location + "/")
    # Listed before the files of the table are: what is added to it meanwhile is younger.
    with explained(settings, f"listing s3://{bucket}/{prefix}"):
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        found = [
            Orphan(each["Key"], each["Size"], each["LastModified"])
            for page in pages
            for each in page.get("Contents", [])
        ]
    referred = table.files()
    unknown = [each for each in found if f"s3://{bucket}/{each.key}" not in referred]
    uuid = str(state.table.metadata.table_uuid)
    metadata = _Metadata(s3, settings, bucket)
    kept = metadata.of_others((each.key for each in unknown if each.size), uuid)
    if used := next((key for key in sorted(kept) if metadata.has_snapshots(key)), None):
        raise RefusedError(
            f"the folder of the table {table.name}, {state.location}, has files of another Iceberg table as "
            f"well: s3://{bucket}/{used} is not its metadata. Nothing was removed or rewritten, because "
            "removing orphan files of one of them, as VACUUM also does, would remove files of the other. "
            'Give this table a folder of its own: see "A folder with two tables" in docs/iceberg.md'
        )
    return Orphans(bucket, [each for each in unknown if each.modified < oldest and each.key not in kept])


@dataclass(frozen=True)
class _Metadata:
    """Iceberg's metadata files in a bucket."""

    s3: S3Client
    settings: CompactSettings
    bucket: str

    def of_others(self, keys: Iterable[str], uuid: str) -> set[str]:
        """Which files are metadata of a table with another UUID."""
        files = [key for key in keys if key.endswith(_METADATA)]
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            return set(compress(files, pool.map(lambda key: self._is_of_another(key, uuid), files)))

    def has_snapshots(self, key: str) -> bool:
        """Whether a table has rows; a compaction that was killed while it created one leaves one without."""
        try:
            return bool(orjson.loads(self._read(key))["snapshots"])
        except MissingError:
            return False
        except (AttributeError, KeyError, TypeError, ValueError):
            return True

    def _is_of_another(self, key: str, uuid: str) -> bool:
        try:
            found = _UUID.search(self._read(key, _HEAD_BYTES)) or _UUID.search(self._read(key))
        except MissingError:
            return False  # removed in the meantime, such as by VACUUM
        return found is None or found[1].decode() != uuid

    def _read(self, key: str, most: int | None = None) -> bytes:
        part: Any = {} if most is None else {"Range": f"bytes=0-{most - 1}"}
        with explained(self.settings, f"reading s3://{self.bucket}/{key}"):
            answer: Any = self.s3.get_object(Bucket=self.bucket, Key=key, **part)
            with closing(answer["Body"]) as stream:
                body: bytes = stream.read()
        return gzip.decompress(body) if body.startswith(b"\x1f\x8b") and most is None else body


def remove(s3: S3Client, settings: CompactSettings, found: Orphans) -> None:
    """Delete orphan files."""
    for start in range(0, len(found.files), _MOST_DELETED):
        some: Any = [{"Key": each.key} for each in found.files[start : start + _MOST_DELETED]]
        with explained(settings, f"removing orphan files from s3://{found.bucket}"):
            answer = s3.delete_objects(Bucket=found.bucket, Delete={"Objects": some, "Quiet": True})
        if errors := answer.get("Errors"):
            raise UnavailableError(
                f"removing orphan files: s3://{found.bucket}/{errors[0].get('Key')} was not removed: "
                f"{errors[0].get('Code')} {errors[0].get('Message', '')}"
            )
