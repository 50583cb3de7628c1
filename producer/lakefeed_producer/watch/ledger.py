"""What `watch` has published, across restarts: an SQLite file that one watcher uses at a time."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from lakefeed_common.errors import LakefeedError, SettingsError
from lakefeed_common.text import printable

Outcome = Literal["started", "done", "failed", "changed", "duplicate"]

_TABLES = """
CREATE TABLE IF NOT EXISTS contents (
    sha256 TEXT PRIMARY KEY, name TEXT NOT NULL, rows INTEGER NOT NULL,
    position INTEGER NOT NULL, rejected INTEGER NOT NULL, done INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS files (
    name TEXT PRIMARY KEY, mark TEXT NOT NULL, sha256 TEXT, outcome TEXT NOT NULL, reason TEXT NOT NULL
);
"""


@dataclass(frozen=True)
class Content:
    """What has been published of some content, whatever its file is called.

    Attributes:
        sha256: of the content.
        name: of the file that had it first.
        rows: data rows.
        position: every row up to this one is delivered or rejected.
        rejected: rows up to the position that were rejected.
        done: whether all rows are published.
    """

    sha256: str
    name: str
    rows: int
    position: int = 0
    rejected: int = 0
    done: bool = False


@dataclass(frozen=True)
class Entry:
    """What became of a file.

    Attributes:
        name: of the file, without folder.
        mark: identifies a state of the file on disk without reading it.
        sha256: of the content that was published under this name, if any.
        outcome: what became of it.
        reason: why, when it is not published.
    """

    name: str
    mark: str
    sha256: str | None
    outcome: Outcome
    reason: str = ""


class Ledger:
    """What `watch` has published: each write is on disk when the call returns.

    Raises:
        SettingsError: the state folder cannot be used, or another watcher uses it.
        LakefeedError: the file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "producer.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"LAKEFEED_STATE_FOLDER={folder}: cannot be created or used: {error.strerror}"
            ) from error
        self._database: sqlite3.Connection | None = None
        try:
            self._database = sqlite3.connect(path, timeout=0, isolation_level=None)
            # The lock lasts as long as the connection; the system releases it when the process is killed.
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute("BEGIN EXCLUSIVE")
            for statement in _TABLES.split(";"):
                self._database.execute(statement)
            self._database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self.close()
            if "locked" in str(error):
                raise SettingsError(
                    f"LAKEFEED_STATE_FOLDER={folder}: another lakefeed-producer uses this folder. "
                    "Stop it, or give each its own folder"
                ) from None
            raise SettingsError(f"LAKEFEED_STATE_FOLDER={folder}: {path} cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            self.close()
            raise LakefeedError(
                f"{path} is damaged ({error}). Without it, files would be published again: restore it, "
                "or move it and the published files to another folder"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, and release its lock."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def entry(self, name: str) -> Entry | None:
        """What is known about a file by its name."""
        row = self._one("SELECT name, mark, sha256, outcome, reason FROM files WHERE name = ?", _stored(name))
        if row is None:
            return None
        name, mark, sha256, outcome, reason = row
        return Entry(_name(name), mark, sha256, outcome, reason)

    def content(self, sha256: str | None) -> Content | None:
        """What is known about some content."""
        row = self._one(
            "SELECT sha256, name, rows, position, rejected, done FROM contents WHERE sha256 = ?", sha256
        )
        if row is None:
            return None
        sha, name, rows, position, rejected, done = row
        return Content(sha, _name(name), rows, position, rejected, bool(done))

    def note(self, entry: Entry) -> None:
        """Remember what became of a file."""
        self._write(
            "INSERT OR REPLACE INTO files (name, mark, sha256, outcome, reason) VALUES (?, ?, ?, ?, ?)",
            (_stored(entry.name), entry.mark, entry.sha256, entry.outcome, entry.reason),
        )

    def save(self, content: Content) -> None:
        """Remember how far some content is published."""
        self._write(
            "INSERT OR REPLACE INTO contents (sha256, name, rows, position, rejected, done) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (
                content.sha256,
                _stored(content.name),
                content.rows,
                content.position,
                content.rejected,
                int(content.done),
            ),
        )

    def _one(self, query: str, *values: str | bytes | None) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._open().execute(query, values).fetchone()
        return row

    def _write(self, statement: str, values: tuple[str | bytes | int | None, ...]) -> None:
        try:
            self._open().execute(statement, values)
        except sqlite3.OperationalError as error:
            raise LakefeedError(
                f"the state cannot be written: {error}. Check LAKEFEED_STATE_FOLDER and its disk"
            ) from error

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            raise LakefeedError("the state has been closed")
        return self._database


def _stored(name: str) -> str | bytes:
    """A file's name as SQLite stores it: as bytes if it is not UTF-8."""
    return name if printable(name) == name else os.fsencode(name)


def _name(stored: str | bytes) -> str:
    return os.fsdecode(stored)
