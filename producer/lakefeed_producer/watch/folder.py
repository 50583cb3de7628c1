"""Finds the CSV files in a folder that are completely written."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lakefeed_common.text import visible
from lakefeed_producer.watch.completeness import ends_with_line, has_writer

log = logging.getLogger(__name__)

_TEMPORARY = (".tmp", ".part", ".partial", ".crdownload", "~")
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".tar", ".tgz")
# A file that ends in the middle of a line must stay unchanged for this many times longer.
_CUT_LINE_FACTOR = 15


@dataclass(frozen=True)
class WatchedFile:
    """A CSV file in the folder.

    Attributes:
        path: the file.
        mark: size and times; it changes whenever the file does.
        mtime_ns: when its content was last changed.
        quiet_seconds: how long it has been unchanged.
    """

    path: Path
    mark: str
    mtime_ns: int
    quiet_seconds: float = 0.0

    @property
    def name(self) -> str:
        """Its name without the folder, for messages."""
        return visible(self.path.name)


class Folder:
    """The watched folder, without its subfolders.

    Args:
        path: the folder.
        settle_seconds: how long a file must stay unchanged.
        clock: monotonic seconds.
    """

    def __init__(
        self, path: Path, settle_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._settle_seconds = settle_seconds
        self._clock = clock
        self._seen: dict[str, tuple[str, float]] = {}
        self._skipped: set[str] = set()
        self._incomplete: dict[str, str] = {}
        self._error = ""

    def settled(self) -> list[WatchedFile]:
        """The files that have not changed for a while, oldest first."""
        now = self._clock()
        seen, settled = {}, []
        for file in self._scan():
            name = file.path.name
            mark, since = self._seen.get(name, ("", now))
            seen[name] = (file.mark, since if mark == file.mark else now)
            if (quiet := now - seen[name][1]) >= self._settle_seconds:
                settled.append(replace(file, quiet_seconds=quiet))
        self._seen = seen
        return sorted(settled, key=lambda file: (file.mtime_ns, file.path.name))

    def is_complete(self, file: WatchedFile) -> bool:
        """Whether a settled file counts as completely written; logs once if not."""
        name, reason = file.path.name, self._incomplete_reason(file)
        if not reason:
            self._incomplete.pop(name, None)
            return True
        if self._incomplete.get(name) != reason:
            log.info("%s is not complete: %s", file.name, reason)
        self._incomplete[name] = reason
        return False

    def _incomplete_reason(self, file: WatchedFile) -> str:
        if has_writer(file.path):
            return "a program has it open for writing"
        seconds = _CUT_LINE_FACTOR * self._settle_seconds
        if file.quiet_seconds < seconds and not ends_with_line(file.path):
            what = "is empty" if file.mark.startswith("0:") else "ends in the middle of a line"
            return f"it {what}, and is published after {seconds:g} s without a change"
        return ""

    def _scan(self) -> list[WatchedFile]:
        files, skipped = [], set()
        try:
            with os.scandir(self._path) as entries:
                for entry in entries:
                    try:
                        if reason := _skip_reason(entry):
                            skipped.add(entry.name)
                            if entry.name not in self._skipped:
                                log.info("%s is not published: %s", visible(entry.name), reason)
                        if reason is not None:
                            continue
                        status = entry.stat()
                    except OSError:
                        continue  # removed in the meantime
                    mark = f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"
                    files.append(WatchedFile(self._path / entry.name, mark, status.st_mtime_ns))
        except OSError as error:
            if str(error) != self._error:
                log.error("The folder %s cannot be read: %s", self._path, error.strerror)
            self._error = str(error)
            return []
        self._error = ""
        self._skipped = skipped
        return files


def _skip_reason(entry: os.DirEntry[str]) -> str | None:
    """Why an entry is not published; empty if that is not worth a message, None if it is published."""
    lower = entry.name.lower()
    if lower.startswith((".", "~")) or lower.endswith(_TEMPORARY):
        return ""
    if entry.is_dir():
        return "subfolders are not watched. Move its files out of it, or watch it separately"
    if lower.endswith((".tsv", ".tab")):
        return "its name does not end in .csv. Rename it to end in .csv, and set LAKEFEED_DELIMITER=tab"
    if lower.endswith(_COMPRESSED):
        return "it is compressed. Decompress it to a file whose name ends in .csv"
    if not lower.endswith(".csv"):
        return "its name does not end in .csv"
    return None if entry.is_file() else "it is not a regular file"
