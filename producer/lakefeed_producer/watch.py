"""Watches a folder and publishes each CSV that appears there, once."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from lakefeed_common.errors import LakefeedError, RefusedError, UnavailableError
from lakefeed_common.health import Health
from lakefeed_common.text import printable
from lakefeed_producer.delivery import Publisher
from lakefeed_producer.journal import KEEP_ROWS_APART, ChangedError, Journal
from lakefeed_producer.ledger import Content, Entry, Ledger, Outcome
from lakefeed_producer.metrics import ProducerMetrics
from lakefeed_producer.prepare import FileOptions, plan
from lakefeed_producer.publish import Plan, Progress, publish
from lakefeed_producer.rejects import RejectsFile, rejects_name
from lakefeed_producer.source import BusyError, CsvFile, begins_with, claimed, ends_with_line, has_writer

log = logging.getLogger(__name__)

LOOP = "watch"
_SAVE_SECONDS = 1.0
_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", "~")
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".tar", ".tgz")
# A file that ends in the middle of a line must stay the same for so many times longer.
_CUT_LINE_FACTOR = 15
# While there is nothing to do, the broker is asked this often whether it is still there.
_PROBE_SECONDS = 10.0


class Connection(Protocol):
    """A usable topic."""

    @property
    def publisher(self) -> Publisher:
        """Sends to it."""

    @property
    def journal(self) -> Journal:
        """Knows what it holds."""


class Link(Protocol):
    """The connection to the broker, made anew when needed."""

    def open(self, while_waiting: Callable[[str], None]) -> Connection:
        """A usable topic.

        Raises:
            LakefeedError: there is none now.
        """

    def drop(self) -> None:
        """Forget the connection: the next `open` makes a new one."""

    def usable(self) -> bool:
        """Whether the broker answers and has the topic."""


class Stopped(Exception):  # noqa: N818 - it is no error
    """A stop was asked for while something was waited for."""


@dataclass(frozen=True)
class Found:
    """A CSV file in the folder.

    Attributes:
        path: where it is.
        mark: size and times; it changes whenever the file does.
        mtime_ns: when its content was last changed.
        quiet_seconds: how long it has been seen as it is.
    """

    path: Path
    mark: str
    mtime_ns: int
    quiet_seconds: float = 0.0

    @property
    def name(self) -> str:
        """Its name without the folder, for messages."""
        return printable(self.path.name)


class Folder:
    """Finds the CSV files that are completely written.

    Args:
        path: the folder; its subfolders are not looked into.
        settle_seconds: how long a file must stay the same.
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
        self._trouble = ""

    def settled(self) -> list[Found]:
        """The files that have not changed for a while, oldest first."""
        now = self._clock()
        seen, settled = {}, []
        for found in self._look():
            name = found.path.name
            mark, since = self._seen.get(name, ("", now))
            seen[name] = (found.mark, since if mark == found.mark else now)
            if (quiet := now - seen[name][1]) >= self._settle_seconds:
                settled.append(replace(found, quiet_seconds=quiet))
        self._seen = seen
        return sorted(settled, key=lambda found: (found.mtime_ns, found.path.name))

    def missing(self, found: Found) -> str:
        """What a settled file lacks to count as completely written; empty if nothing."""
        if has_writer(found.path):
            return "a program has it open for writing"
        seconds = _CUT_LINE_FACTOR * self._settle_seconds
        if found.quiet_seconds < seconds and not ends_with_line(found.path):
            return f"it ends in the middle of a line, and is published after {seconds:g} s without a change"
        return ""

    def _look(self) -> list[Found]:
        found, skipped = [], set()
        try:
            with os.scandir(self._path) as entries:
                for entry in entries:
                    try:
                        if reason := _why_skipped(entry):
                            skipped.add(entry.name)
                            if entry.name not in self._skipped:
                                log.info("%s is not published: %s", printable(entry.name), reason)
                        if reason is not None:
                            continue
                        status = entry.stat()
                    except OSError:
                        continue  # gone between the two looks
                    mark = f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"
                    found.append(Found(self._path / entry.name, mark, status.st_mtime_ns))
        except OSError as error:
            if str(error) != self._trouble:
                log.error("the folder %s cannot be read: %s", self._path, error.strerror)
            self._trouble = str(error)
            return []
        self._trouble = ""
        self._skipped = skipped
        return found


def _why_skipped(entry: os.DirEntry[str]) -> str | None:
    """Why something in the folder is not published; empty if there is no need to say, None if it is."""
    lower = entry.name.lower()
    if lower.startswith((".", "~")) or lower.endswith(_UNFINISHED):
        return ""
    if entry.is_dir():
        return "subfolders are not looked into. Move its files out of it, or watch it by itself"
    if lower.endswith((".tsv", ".tab")):
        return "its name does not end in .csv. Give it such a name, and set LAKEFEED_DELIMITER=tab"
    if lower.endswith(_PACKED):
        return "it is compressed. Decompress it to a file whose name ends in .csv"
    if not lower.endswith(".csv"):
        return "its name does not end in .csv"
    return None if entry.is_file() else "it is no regular file"


class Watch:
    """The work loop.

    Args:
        folder: where the files appear.
        state_folder: for the rejects.
        options: how files are published.
        ledger: what has been done.
        link: the way to the broker.
        metrics: counts the work.
        health: hears the loop's heart beat; dependency `kafka`.
        stop: ends the loop.
        poll_seconds: pause between two looks.
        patience_seconds: how long to wait for a broker that acknowledges nothing.
    """

    def __init__(
        self,
        folder: Folder,
        state_folder: Path,
        options: FileOptions,
        ledger: Ledger,
        link: Link,
        metrics: ProducerMetrics,
        health: Health,
        stop: threading.Event,
        poll_seconds: float,
        patience_seconds: float,
    ) -> None:
        self._folder = folder
        self._rejects_folder = state_folder / "rejects"
        self._options = options
        self._ledger = ledger
        self._link = link
        self._metrics = metrics
        self._health = health
        self._stop = stop
        self._poll_seconds = poll_seconds
        self._patience_seconds = patience_seconds
        self._probed = time.monotonic()
        self._failed_names: set[str] = set()
        self._busy_names: set[str] = set()
        self._incomplete: dict[str, str] = {}
        self._counted: dict[str, int] = {}

    def run(self) -> None:
        """Work until a stop is asked for."""
        try:
            while not self._stop.is_set():
                self._health.beat(LOOP)
                if not self.round():
                    self._stop.wait(self._poll_seconds)
        except Stopped:
            pass
        finally:
            self._link.drop()
            self._health.retire(LOOP)

    def round(self) -> bool:
        """Publish what there is to publish; False if there was nothing or the broker is away."""
        try:
            connection = self._link.open(self._waiting)
            self._probe()
        except LakefeedError as error:
            self._broker_is_away(error)
            return False
        self._health.ready("kafka")
        worked = False
        for found in self._folder.settled():
            if self._stop.is_set():
                break
            self._health.beat(LOOP)
            if self._is_settled_case(found) or not self._is_complete(found):
                continue
            try:
                with claimed(found.path):
                    self._take(found, connection)
            except BusyError as error:
                self._leave(found, error)
                continue
            except (UnavailableError, RefusedError) as error:
                log.warning("%s: %s. It goes on when the broker is back", found.name, error)
                self._broker_is_away(error)
                return False
            except Stopped:
                raise
            except Exception as error:
                # One file never ends the work on the others.
                connection.publisher.abandon()
                self._failed(found, error)
            self._busy_names.discard(found.path.name)
            worked = True
        return worked

    # ---- the broker -----------------------------------------------------------------------------

    def _waiting(self, reason: str) -> None:
        self._health.beat(LOOP)
        if reason:
            self._health.unready("kafka", reason)
        if self._stop.is_set():
            raise Stopped

    def _probe(self) -> None:
        if time.monotonic() - self._probed < _PROBE_SECONDS:
            return
        self._probed = time.monotonic()
        if not self._link.usable():
            self._link.drop()
            self._link.open(self._waiting)

    def _broker_is_away(self, error: LakefeedError) -> None:
        self._metrics.count_error(error)
        self._health.unready("kafka", str(error))
        self._link.drop()

    # ---- one file -------------------------------------------------------------------------------

    def _is_settled_case(self, found: Found) -> bool:
        entry = self._ledger.entry(found.path.name)
        if entry is None or entry.mark != found.mark or entry.outcome == "started":
            return False
        # What failed is tried once more after a restart: settings may have changed.
        return entry.outcome != "failed" or found.path.name in self._failed_names

    def _is_complete(self, found: Found) -> bool:
        missing = self._folder.missing(found)
        if not missing:
            self._incomplete.pop(found.path.name, None)
            return True
        if self._incomplete.get(found.path.name) != missing:
            log.info("%s is not complete: %s", found.name, missing)
        self._incomplete[found.path.name] = missing
        return False

    def _take(self, found: Found, connection: Connection) -> None:
        """Do what is to be done with a file."""
        file = CsvFile(found.path, self._options.dialect)
        planned = plan(file, self._options, beat=self._beat_or_stop)
        known = self._ledger.content(planned.sha256)
        if known is not None and known.done:
            self._already_done(found, known)
        elif not self._was_changed(found, planned.sha256):
            content = known or Content(planned.sha256, found.path.name, planned.total)
            for warning in [*file.warnings(), *filter(None, [planned.warning])]:
                log.warning("%s: %s", found.name, warning)
            self._publish(found, planned, content, connection)

    def _beat_or_stop(self) -> None:
        self._health.beat(LOOP)
        if self._stop.is_set():
            raise Stopped

    def _already_done(self, found: Found, known: Content) -> None:
        name = found.path.name
        entry = self._ledger.entry(name)
        if known.name == name or (entry is not None and entry.sha256 == known.sha256):
            # Touched, or put back as it was.
            self._note(found, known.sha256, "done")
            return
        reason = f"its content was published from {printable(known.name)}"
        log.info("%s is not published again: %s", found.name, reason)
        self._note(found, known.sha256, "duplicate", reason)
        self._metrics.files.labels("duplicate").inc()

    def _was_changed(self, found: Found, sha256: str) -> bool:
        """Whether another content of this name has been published, wholly or in part."""
        entry = self._ledger.entry(found.path.name)
        before = self._ledger.content(entry.sha256) if entry is not None else None
        if before is None or before.sha256 == sha256 or not before.position:
            return False
        how_much = "" if before.done else f"the first {before.position:,} rows of "
        reason = f"it was changed after {how_much}it had been published"
        log.warning("%s is not published again: %s. %s", found.name, reason, self._advice(found, before))
        self._changed(found, before.sha256, reason)
        return True

    def _advice(self, found: Found, before: Content) -> str:
        """What to do about a file that was changed, so that no row is published twice."""
        if not before.done:
            # How many rows of it the topic holds is not known to the row.
            return KEEP_ROWS_APART
        entry = self._ledger.entry(found.path.name)
        size = int(entry.mark.partition(":")[0]) if entry is not None else 0
        if not begins_with(found.path, size, before.sha256, self._beat_or_stop):
            return "Put the rows that are not published yet, below the header, into a file with another name"
        last = f"row {before.rows:,}, the last one that is published"
        cut = "" if ends_with_line(found.path, size) else ". That row was published before it was complete"
        return f"Put the rows after {last}, below the header, into a file with another name{cut}"

    def _changed(self, found: Found, sha256: str, reason: str) -> None:
        self._note(found, sha256, "changed", reason)
        self._metrics.files.labels("changed").inc()

    def _leave(self, found: Found, error: BusyError) -> None:
        """Come back to a file when the other producer has ended."""
        if found.path.name not in self._busy_names:
            log.warning("%s", error)
            self._metrics.count_error(error)
        self._busy_names.add(found.path.name)

    def _failed(self, found: Found, error: Exception) -> None:
        if not isinstance(error, LakefeedError):
            log.error("Unexpected error", exc_info=error)
            error = LakefeedError(f"{error!r}. Please report it, with the lines above")
        log.error("%s cannot be published: %s", found.name, error)
        self._metrics.count_error(error)
        self._metrics.files.labels("failed").inc()
        entry = self._ledger.entry(found.path.name)
        self._note(found, entry.sha256 if entry else None, "failed", str(error))
        self._failed_names.add(found.path.name)

    def _note(self, found: Found, sha256: str | None, outcome: Outcome, reason: str = "") -> None:
        self._ledger.note(Entry(found.path.name, found.mark, sha256, outcome, reason))

    def _publish(self, found: Found, planned: Plan, content: Content, connection: Connection) -> None:
        name = found.name
        self._ledger.save(content)
        self._note(found, content.sha256, "started")
        # A file that was renamed meanwhile goes on under its first name.
        source = content.name.encode("utf-8", "surrogateescape")
        try:
            tracker = connection.journal.resume(
                source, content.sha256, found.mtime_ns, content.rows, self._beat_or_stop
            )
        except ChangedError as error:
            log.warning("%s", error)
            self._changed(found, content.sha256, str(error))
            return
        there = int(tracker.arrivals.rows.sum())
        known = f", {there} of them are in the topic already" if there else ""
        log.info("%s: publishing %s rows%s", name, content.rows, known)
        self._rejects_folder.mkdir(exist_ok=True)
        keeper = _Keeper(self._ledger, content)
        try:
            with RejectsFile(self._rejects_folder / rejects_name(found.path.name)) as rejects:
                progress = publish(
                    replace(planned, counted=max(content.position, self._counted.get(content.sha256, 0))),
                    connection.publisher,
                    tracker.arrivals,
                    rejects,
                    self._metrics,
                    self._stop,
                    lambda progress: self._observe(progress, keeper),
                    check=tracker.check,
                    patience_seconds=self._patience_seconds,
                )
        except BusyError as error:
            # To try again would go on repeating the other one's rows.
            self._failed(found, error)
            return
        finally:
            self._counted[content.sha256] = keeper.read
            content = keeper.save()
        connection.journal.done(tracker)
        self._finish(found, content, progress, rejects.path)

    def _finish(self, found: Found, content: Content, progress: Progress, rejects: Path) -> None:
        name = found.name
        if progress.interrupted:
            log.info("%s: stopped behind row %s of %s", name, content.position, content.rows)
            return
        self._ledger.save(replace(content, done=True))
        self._note(found, content.sha256, "done")
        self._metrics.files.labels("done").inc()
        delivered = content.position - content.rejected
        log.info("%s: done, %s events delivered, %s rows rejected", name, delivered, content.rejected)
        if content.rejected:
            log.warning("%s: %s rows were rejected, see %s", name, content.rejected, rejects)

    def _observe(self, progress: Progress, keeper: _Keeper) -> None:
        self._health.beat(LOOP)
        keeper.see(progress)
        if progress.trouble:
            self._health.unready("kafka", progress.trouble)
        else:
            self._health.ready("kafka")


class _Keeper:
    """Saves the position of a file about every second."""

    def __init__(self, ledger: Ledger, content: Content) -> None:
        self._ledger = ledger
        self._content = content
        self._saved = time.monotonic()
        self.read = 0

    def see(self, progress: Progress) -> None:
        """Take down the position, and save it if it is time."""
        self.read = progress.read
        if progress.position >= self._content.position:
            # A run that goes on with a file begins at its first row.
            position, rejected = progress.position, progress.rejected
            self._content = replace(self._content, position=position, rejected=rejected)
        if time.monotonic() - self._saved >= _SAVE_SECONDS:
            self.save()

    def save(self) -> Content:
        """Save the position that was last seen."""
        self._saved = time.monotonic()
        self._ledger.save(self._content)
        return self._content
