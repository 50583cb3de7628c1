"""Maintains an Iceberg table: small files and old snapshots through Athena, orphan files by their age.

Killed or refused compactions leave files that no snapshot refers to. They are removed when they are older
than any compaction can be.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lakefeed_analytics.edge import explained
from lakefeed_analytics.iceberg.files import place_of
from lakefeed_analytics.iceberg.table import LakeTable
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common.errors import UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MOST_DELETED = 1000  # https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html


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


def orphans(
    s3: S3Client, settings: CompactSettings, table: LakeTable, topic: str, now: datetime | None = None
) -> list[Orphan]:
    """The files in the table's folder that no snapshot refers to, older than the setting says.

    Raises:
        MissingError: there is no table.
    """
    oldest = (now or datetime.now(UTC)) - timedelta(days=settings.orphan_days)
    bucket, prefix = place_of(settings.iceberg_location(topic) + "/")
    # Listed first: what is added to the table meanwhile is younger.
    with explained(settings, f"listing s3://{bucket}/{prefix}"):
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        found = [
            Orphan(each["Key"], each["Size"], each["LastModified"])
            for page in pages
            for each in page.get("Contents", [])
            if each["LastModified"] < oldest
        ]
    if not found:
        return []
    referred = table.files()
    return [each for each in found if f"s3://{bucket}/{each.key}" not in referred]


def remove(s3: S3Client, settings: CompactSettings, found: list[Orphan]) -> None:
    """Delete orphan files."""
    for start in range(0, len(found), _MOST_DELETED):
        some: Any = [{"Key": each.key} for each in found[start : start + _MOST_DELETED]]
        with explained(settings, f"removing orphan files from s3://{settings.bucket}"):
            answer = s3.delete_objects(Bucket=settings.bucket, Delete={"Objects": some, "Quiet": True})
        if errors := answer.get("Errors"):
            raise UnavailableError(
                f"removing orphan files: s3://{settings.bucket}/{errors[0].get('Key')} was not removed: "
                f"{errors[0].get('Code')} {errors[0].get('Message', '')}"
            )
