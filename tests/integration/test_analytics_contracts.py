"""Glue, S3 and Athena keep the contracts that the fakes keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from lakefeed_analytics.athena import QueryEngine
from lakefeed_analytics.catalogue import Catalogue
from lakefeed_analytics.crawl import Crawler
from lakefeed_analytics.folders import Folders
from lakefeed_analytics.parts import Parts, connect
from lakefeed_analytics.settings import AnalyticsSettings
from lakefeed_common.settings import load
from tests.helpers.analytics.contracts import (
    CatalogueContract,
    CrawlerContract,
    EngineContract,
    FoldersContract,
)
from tests.helpers.analytics.fakes import COLUMNS
from tests.helpers.local_s3 import put_all

if TYPE_CHECKING:
    from mypy_boto3_glue import GlueClient
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def settings(aws: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> AnalyticsSettings:
    # boto3's default session would keep the credentials of the first test.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    return load(AnalyticsSettings, {"bucket": bucket, "topics": "one,two.x"})


@pytest.fixture
def parts(settings: AnalyticsSettings) -> Iterator[Parts]:
    with connect(settings) as parts:
        for step in parts.ensure.values():
            step()
        yield parts


class TestEngine(EngineContract):
    @pytest.fixture
    def engine(self, parts: Parts) -> QueryEngine:
        return parts.engine


class TestCatalogue(CatalogueContract):
    @pytest.fixture
    def catalogue(self, parts: Parts) -> Catalogue:
        return parts.catalogue

    @pytest.fixture
    def fill(self, glue: GlueClient, settings: AnalyticsSettings) -> Callable[..., None]:
        def add(table: str, *days: str) -> None:
            storage: Any = {
                "Location": f"s3://{settings.bucket}/events/{table}/",
                "Columns": [{"Name": each.name, "Type": each.type} for each in COLUMNS if not each.partition],
            }
            glue.create_table(
                DatabaseName=settings.glue_database,
                TableInput={
                    "Name": table,
                    "StorageDescriptor": storage,
                    "PartitionKeys": [{"Name": "dt", "Type": "string"}],
                },
            )
            for day in days:
                glue.create_partition(
                    DatabaseName=settings.glue_database,
                    TableName=table,
                    PartitionInput={
                        "Values": [day],
                        "StorageDescriptor": storage | {"Location": f"{storage['Location']}dt={day}/"},
                    },
                )

        return add


class TestCrawler(CrawlerContract):
    @pytest.fixture
    def crawler(self, parts: Parts, aws: str, account: str, settings: AnalyticsSettings) -> Crawler:
        # Enough that a crawl takes longer than the calls that find it running.
        topic = f"events/{settings.topic_names[0]}"
        days = [f"2026-{month:02}-{day:02}" for month in range(1, 13) for day in range(1, 29)]
        put_all(aws, account, settings.bucket, [f"{topic}/dt={day}/1.json" for day in days])
        return parts.crawler

    @pytest.fixture
    def finish(self) -> Callable[[], None]:
        return lambda: None


class TestFolders(FoldersContract):
    @pytest.fixture
    def folders(self, parts: Parts) -> Folders:
        return parts.folders

    @pytest.fixture
    def put(self, s3: S3Client, settings: AnalyticsSettings) -> Callable[[str], None]:
        def store(key: str) -> None:
            s3.put_object(Bucket=settings.bucket, Key=key, Body=b"{}")

        return store
