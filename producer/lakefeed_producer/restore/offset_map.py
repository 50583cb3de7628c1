"""The offset map: which offset of the target each restored record has, as runs of consecutive offsets.

A file of JSON lines: the first names source and target, each other one a run:
`{"partition":0,"old":1200,"new":1000,"count":500}` means that the offsets 1200 to 1699 became 1000 to 1499.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import orjson

from lakefeed_common.errors import InputError, SettingsError
from lakefeed_producer.csv.byte_columns import Numbers
from lakefeed_producer.errors import BusyError
from lakefeed_producer.restore.missed import Restored
from lakefeed_producer.restore.tail import Placed

_RECORDS_AT_ONCE = 10_000


class OffsetMap:
    """The file, open from `with` to the end of it.

    Args:
        path: the file; it is continued if it exists.
        source, target: what its first line names: the origin's addresses, and the topic.
        dry_run: leave the file as it is, and create none.

    Attributes:
        ends: for each partition, the offset of the target up to which the file has it.
        restored: for each partition, the origin's offsets that it had at the start; see `complete`.
    """

    def __init__(self, path: Path, source: str, target: str, *, dry_run: bool = False) -> None:
        self._path = path
        self._dry_run = dry_run
        self._head = {"source": source, "target": target}
        self.ends: dict[int, int] = {}
        self.restored: dict[int, Restored] = defaultdict(Restored)

    def __enter__(self) -> Self:
        with ExitStack() as held:
            try:
                self._file = held.enter_context(self._opened())
                self._load()
            except BlockingIOError as error:
                raise BusyError(
                    f"another restore is writing the offset map {self._path}. Wait until it has ended, stop "
                    "it, or name another file with --offset-map"
                ) from error
            except OSError as error:
                raise SettingsError(
                    f"the offset map {self._path} cannot be written: {error.strerror}. Name another file "
                    "with --offset-map"
                ) from error
            held.pop_all()
        return self

    def _opened(self) -> IO[bytes]:
        if self._path.exists() and not self._path.is_file():
            raise SettingsError(
                f"the offset map {self._path} is not a regular file. Name another one with --offset-map"
            )
        if self._dry_run:
            if not os.access(self._path if self._path.exists() else self._path.parent, os.W_OK):
                code = errno.EACCES if self._path.parent.exists() else errno.ENOENT
                raise OSError(code, os.strerror(code))
            return io.BytesIO(self._path.read_bytes() if self._path.exists() else b"")
        file = self._path.open("a+b")
        try:
            # Two restores would write some offsets twice. The kernel forgets the lock with the process.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise
        return file

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
        new = np.fromiter((one.offset for one in some), np.int64, len(some))
        self.add(partition, old, new)
        for first, _, count in runs(old, new):
            self.restored[partition].add(first, count)

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
                self.restored[found["partition"]].add(found["old"], found["count"])
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
        # The layouts of a topic, whichever are restored, have the same offsets.
        if (_origin(found.get("source")), found.get("target")) != (
            _origin(self._head["source"]),
            self._head["target"],
        ):
            raise SettingsError(
                f"{self._path} is the offset map of another restore: {found.get('source')} to "
                f"{found.get('target')}. Name another file with --offset-map"
            )


def _origin(source: Any) -> tuple[str, str]:
    """Bucket and topic of a head's source."""
    address = str(source).split(" ")[0]
    return address.removeprefix("s3://").partition("/")[0], address.rpartition("/")[2]


def runs(old: Numbers, new: Numbers) -> Iterator[tuple[int, int, int]]:
    """Runs in which both offsets grow by one: the first old one, the first new one, their number."""
    breaks = np.flatnonzero((np.diff(old) != 1) | (np.diff(new) != 1)) + 1
    starts = [0, *breaks.tolist()]
    for start, end in zip(starts, [*starts[1:], len(old)], strict=True):
        yield int(old[start]), int(new[start]), end - start
