"""Which rows of a file a topic already has, so that a run sends only those that are missing."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from lakefeed_producer.csv.byte_columns import ByteColumn
from lakefeed_producer.csv.splitter import Positions

# This many consecutive rows go to one partition, the next ones to the next partition.
RUN_ROWS = 100
_DIGITS = 16
_MARK = re.compile(rb"([0-9a-f]{%d})\.([1-9]\d{0,5})\.(\d{1,15})" % _DIGITS)


@dataclass(frozen=True)
class Publication:
    """The publishing of one file's content, by one or several runs.

    Attributes:
        source: name of the file; the header `source` of each record.
        digest: first hex digits of the SHA-256 of the file's bytes.
        partitions: how many the topic had at the start. Partitions that are added later stay unused, so
            that a row and a key have the same partition in each run.
        began: milliseconds since 1970.
    """

    source: bytes
    digest: str
    partitions: int
    began: int

    @classmethod
    def new(cls, source: bytes, sha256: str, partitions: int, began: int) -> Self:
        """A publication that starts."""
        return cls(source, sha256[:_DIGITS], partitions, began)

    @classmethod
    def of(cls, source: bytes, mark: bytes) -> Self | None:
        """The publication of a record; None if its headers are not the producer's."""
        found = _MARK.fullmatch(mark)
        return cls(source, found[1].decode(), int(found[2]), int(found[3])) if found else None

    @property
    def mark(self) -> bytes:
        """The header `publication` of each record."""
        return f"{self.digest}.{self.partitions}.{self.began}".encode()

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """The headers that all records of the publication have; `row` follows them."""
        return [("source", self.source), ("publication", self.mark)]

    def is_of(self, sha256: str) -> bool:
        """Whether it publishes the content with this hash."""
        return sha256.startswith(self.digest)

    def assign_partitions(self, rows: Positions, keys: ByteColumn | None) -> Positions:
        """The partition of each row: by its key as in librdkafka, or by its number if the key is empty."""
        if self.partitions == 1:
            return np.zeros(len(rows), np.int64)
        partitions: Positions = (rows - 1) // RUN_ROWS % self.partitions
        if keys is not None:
            keyed = np.flatnonzero(keys.lengths)
            hashes = [zlib.crc32(keys[at]) % self.partitions for at in keyed.tolist()]
            partitions[keyed] = hashes
        return partitions


@dataclass
class RowsInTopic:
    """The rows of a publication that the topic has.

    Attributes:
        publication: which publication.
        rows: a flag for each row number.
        deleted: for each partition, the row below which retention has deleted its rows.
    """

    publication: Publication
    rows: npt.NDArray[np.bool_]
    deleted: dict[int, int] = field(default_factory=dict)

    @classmethod
    def none(cls, publication: Publication, rows: int) -> Self:
        """None of `rows` rows."""
        return cls(publication, np.zeros(rows + 1, np.bool_))

    def present(self, rows: Positions, partitions: Positions) -> npt.NDArray[np.bool_]:
        """Flag the rows that the topic has, or had before retention deleted them."""
        present: npt.NDArray[np.bool_] = self.rows[rows]
        if self.deleted:
            below = np.zeros(self.publication.partitions, np.int64)
            below[list(self.deleted)] = list(self.deleted.values())
            present = present | (rows < below[partitions])
        return present
