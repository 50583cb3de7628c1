"""What a topic holds of a file, by rows: so that a run sends what is missing and nothing else."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from lakefeed_producer.records import Positions

# So many consecutive rows go to one partition, and the next ones to the next.
RUN_ROWS = 100
_DIGITS = 16
_MARK = re.compile(rb"([0-9a-f]{%d})\.([1-9]\d{0,5})\.(\d{1,15})" % _DIGITS)


@dataclass(frozen=True)
class Publication:
    """One publishing of a file's content, by as many runs as it takes.

    Attributes:
        source: name of the file, the header `source` of each record.
        digest: first hex digits of the SHA-256 of the file's bytes.
        partitions: how many the topic had at the start; any added later stay unused, so that a row
            and a key have the same partition in each run.
        began: milliseconds since 1970.
    """

    source: bytes
    digest: str
    partitions: int
    began: int

    @classmethod
    def new(cls, source: bytes, sha256: str, partitions: int, began: int) -> Self:
        """One that begins."""
        return cls(source, sha256[:_DIGITS], partitions, began)

    @classmethod
    def of(cls, source: bytes, mark: bytes) -> Self | None:
        """That of a record; None if its headers are not ours."""
        found = _MARK.fullmatch(mark)
        return cls(source, found[1].decode(), int(found[2]), int(found[3])) if found else None

    @property
    def mark(self) -> bytes:
        """The header `publication` of each record."""
        return f"{self.digest}.{self.partitions}.{self.began}".encode()

    def is_of(self, sha256: str) -> bool:
        """Whether it is one of the content with this hash."""
        return sha256.startswith(self.digest)

    def spread(self, rows: Sequence[int], keys: Sequence[bytes | None]) -> list[int]:
        """The partition of each row: by its key as librdkafka does it, else by its number."""
        count = self.partitions
        if count == 1:
            return [0] * len(rows)
        return [
            zlib.crc32(key) % count if key else (row - 1) // RUN_ROWS % count
            for row, key in zip(rows, keys, strict=True)
        ]


@dataclass
class Arrivals:
    """The rows of a publication that the topic holds.

    Attributes:
        publication: which one.
        rows: whether a row is there, by its number.
        deleted: by partition, the row below which its rows were there until retention deleted them.
    """

    publication: Publication
    rows: npt.NDArray[np.bool_]
    deleted: dict[int, int] = field(default_factory=dict)

    @classmethod
    def none(cls, publication: Publication, rows: int) -> Self:
        """None of so many rows."""
        return cls(publication, np.zeros(rows + 1, np.bool_))

    def present(self, rows: Positions, partitions: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Which of some rows are there, or were."""
        present: npt.NDArray[np.bool_] = self.rows[rows]
        if self.deleted:
            below = np.array([self.deleted.get(partition, 0) for partition in partitions], np.int64)
            present = present | (rows < below)
        return present
