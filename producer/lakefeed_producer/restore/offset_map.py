"""The offset map: which offset of the target each restored record has, as runs of consecutive offsets.

A file of JSON lines: the first names source and target, each other one a run:
`{"partition":0,"old":1200,"new":1000,"count":500}` means that the offsets 1200 to 1699 became 1000 to 1499.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import orjson

from lakefeed_common.errors import InputError, SettingsError
from lakefeed_producer.csv.byte_columns import Numbers
from lakefeed_producer.restore.tail import Placed

_RECORDS_AT_ONCE = 10_000


class OffsetMap:
    """The file, open from `with` to the end of it.

    Args:
        path: the file; it is continued if it exists.
        source, target: what its first line names: the origin's address, and the topic.

    Attributes:
        ends: for each partition, the offset of the target up to which the file has it.
    """

    def __init__(self, path: Path, source: str, target: str) -> None:
        self._path = path
        self._head = {"source": source, "target": target}
        self.ends: dict[int, int] = {}

    def __enter__(self) -> Self:
        try:
            self._file = self._path.open("a+b")
        except OSError as error:
            raise SettingsError(
                f"the offset map {self._path} cannot be written: {error.strerror}. Name another file with "
                "--offset-map"
            ) from error
        try:
            self._load()
        except SettingsError:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, partition: int, old: Numbers, new: Numbers) -> None:
        """Write the runs of some consecutive records.

        Raises:
            InputError: the file cannot be written.
        """
        lines = b"".join(
            orjson.dumps({"partition": partition, "old": first, "new": place, "count": count}) + b"\n"
            for first, place, count in runs(old, new)
        )
        try:
            self._file.write(lines)
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"the offset map {self._path} cannot be written: {error.strerror}. Make room, and run the "
                "same command again to resume"
            ) from error
        self.ends[partition] = int(new[-1]) + 1

    def complete(self, placed: Iterable[Placed]) -> None:
        """Add records that the target has and the file does not: those of a killed run."""
        waiting: dict[int, list[Placed]] = {}
        for one in placed:
            if one.origin is not None:
                some = waiting.setdefault(one.partition, [])
                some.append(one)
                if len(some) >= _RECORDS_AT_ONCE:
                    self._add(one.partition, waiting.pop(one.partition))
        for partition, some in waiting.items():
            self._add(partition, some)

    def _add(self, partition: int, some: list[Placed]) -> None:
        old = np.fromiter((one.origin.offset for one in some if one.origin), np.int64, len(some))
        self.add(partition, old, np.fromiter((one.offset for one in some), np.int64, len(some)))

    def _load(self) -> None:
        """Read what an earlier run wrote; its last line may have been cut off."""
        self._file.seek(0)
        size = 0
        for number, line in enumerate(self._file):
            if not line.endswith(b"\n"):
                break
            size += len(line)
            found = self._parse(line)
            if number == 0:
                self._check_head(found)
            else:
                self.ends[found["partition"]] = found["new"] + found["count"]
        self._file.truncate(size)
        self._file.seek(0, os.SEEK_END)
        if not size:
            self._file.write(orjson.dumps(self._head) + b"\n")
            self._file.flush()

    def _parse(self, line: bytes) -> dict[str, Any]:
        try:
            found: dict[str, Any] = orjson.loads(line)
            if {"source", "target"} <= found.keys() or {"partition", "old", "new", "count"} <= found.keys():
                return found
        except (AttributeError, orjson.JSONDecodeError):
            pass
        raise SettingsError(f"{self._path} is not an offset map. Name another file with --offset-map")

    def _check_head(self, found: dict[str, Any]) -> None:
        if found != self._head:
            raise SettingsError(
                f"{self._path} is the offset map of another restore: {found.get('source')} to "
                f"{found.get('target')}. Name another file with --offset-map"
            )


def runs(old: Numbers, new: Numbers) -> Iterator[tuple[int, int, int]]:
    """Runs in which both offsets grow by one: the first old one, the first new one, their number."""
    breaks = np.flatnonzero((np.diff(old) != 1) | (np.diff(new) != 1)) + 1
    starts = [0, *breaks.tolist()]
    for start, end in zip(starts, [*starts[1:], len(old)], strict=True):
        yield int(old[start]), int(new[start]), end - start
