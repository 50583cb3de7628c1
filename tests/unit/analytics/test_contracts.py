"""The fakes keep the contracts of the seams."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.helpers.analytics.contracts import (
    NUMBER_COLUMNS,
    NUMBER_ROWS,
    NUMBERS,
    SLOW,
    CatalogueContract,
    CrawlerContract,
    EngineContract,
    FoldersContract,
)
from tests.helpers.analytics.fakes import Answer, MemoryCatalogue, MemoryCrawler, MemoryEngine, MemoryFolders


class TestEngine(EngineContract):
    @pytest.fixture
    def engine(self) -> MemoryEngine:
        return MemoryEngine({NUMBERS: Answer(NUMBER_COLUMNS, NUMBER_ROWS), SLOW: Answer(hold=True)})


class TestCatalogue(CatalogueContract):
    @pytest.fixture
    def catalogue(self) -> MemoryCatalogue:
        return MemoryCatalogue()

    @pytest.fixture
    def fill(self, catalogue: MemoryCatalogue) -> Callable[..., None]:
        return catalogue.add


class TestCrawler(CrawlerContract):
    @pytest.fixture
    def crawler(self) -> MemoryCrawler:
        return MemoryCrawler()

    @pytest.fixture
    def finish(self, crawler: MemoryCrawler) -> Callable[[], None]:
        return crawler.end


class TestFolders(FoldersContract):
    @pytest.fixture
    def folders(self) -> MemoryFolders:
        return MemoryFolders()

    @pytest.fixture
    def put(self, folders: MemoryFolders) -> Callable[[str], None]:
        def store(key: str) -> None:
            if match := re.fullmatch(r"events/(one|two\.x)/dt=([^/]+)/.+", key):
                folders.folders.add((match[1], match[2]))

        return store
