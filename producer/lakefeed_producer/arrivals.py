"""What a topic holds of a file, by rows: so that a run sends what is missing and nothing else."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from lakefeed_producer.records import Positions
from lakefeed_producer.texts import Texts

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

    def spread(self, rows: Positions, keys: Texts | None) -> Positions:
        """The partition of each row: by its key as librdkafka does it, by its number where that is empty."""
        if self.partitions == 1:
            return np.zeros(len(rows), np.int64)
        partitions: Positions = (rows - 1) // RUN_ROWS % self.partitions
        if keys is not None:
            keyed = np.flatnonzero(keys.lengths)
            hashes = [zlib.crc32(keys[at]) % self.partitions for at in keyed.tolist()]
            partitions[keyed] = hashes
        return partitions


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

    def present(self, rows: Positions, partitions: Positions) -> npt.NDArray[np.bool_]:
        """Which of some rows are there, or were."""
        present: npt.NDArray[np.bool_] = self.rows[rows]
        if self.deleted:
            below = np.zeros(self.publication.partitions, np.int64)
            below[list(self.deleted)] = list(self.deleted.values())
            present = present | (rows < below[partitions])
        return present
