"""Records what became of each file: in the ledger, in the metrics, in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable

from lakefeed_common.errors import LakefeedError
from lakefeed_common.text import visible
from lakefeed_producer.errors import BusyError
from lakefeed_producer.kafka.journal import HOW_TO_PUBLISH_CHANGES
from lakefeed_producer.metrics import ProducerMetrics
from lakefeed_producer.watch.completeness import begins_with, ends_with_line
from lakefeed_producer.watch.folder import WatchedFile
from lakefeed_producer.watch.ledger import Content, Entry, Ledger, Outcome

log = logging.getLogger(__name__)


class Outcomes:
    """What became of the files in the folder.

    Args:
        ledger: remembers it across restarts.
        metrics: counts it.
    """

    def __init__(self, ledger: Ledger, metrics: ProducerMetrics) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._failed_names: set[str] = set()
        self._busy_names: set[str] = set()

    def is_final(self, file: WatchedFile) -> bool:
        """Whether there is nothing to do for a file until it changes."""
        entry = self._ledger.entry(file.path.name)
        if entry is None or entry.mark != file.mark or entry.outcome == "started":
            return False
        # A file that failed is tried once more after a restart: settings may have changed.
        return entry.outcome != "failed" or file.path.name in self._failed_names

    def started(self, file: WatchedFile, content: Content) -> None:
        """The file is being published."""
        self._ledger.save(content)
        self._note(file, "started", content.sha256)

    def done(self, file: WatchedFile, content: Content) -> None:
        """The file has been published."""
        self._note(file, "done", content.sha256)
        self._metrics.files.labels("done").inc()
        delivered = content.position - content.rejected
        log.info("%s: done, %s events delivered, %s rows rejected", file.name, delivered, content.rejected)

    def already_done(self, file: WatchedFile, content: Content) -> None:
        """The content has been published, under this name or another one."""
        name = file.path.name
        entry = self._ledger.entry(name)
        if content.name == name or (entry is not None and entry.sha256 == content.sha256):
            # Touched, or restored.
            self._note(file, "done", content.sha256)
            return
        reason = f"its content was published from {visible(content.name)}"
        log.info("%s is not published again: %s", file.name, reason)
        self._note(file, "duplicate", content.sha256, reason)
        self._metrics.files.labels("duplicate").inc()

    def earlier_content(self, file: WatchedFile, sha256: str) -> Content | None:
        """Different content that has been published, wholly or in part, under the file's name."""
        entry = self._ledger.entry(file.path.name)
        before = self._ledger.content(entry.sha256) if entry is not None else None
        return before if before is not None and before.sha256 != sha256 and before.position else None

    def changed(self, file: WatchedFile, before: Content, beat: Callable[[], None]) -> None:
        """The file was changed after all or some of it was published."""
        published = "" if before.done else f"the first {before.position:,} rows of "
        reason = f"it was changed after {published}it had been published"
        advice = self._advice(file, before, beat)
        log.warning("%s is not published again: %s. %s", file.name, reason, advice)
        self.refused(file, before.sha256, reason)

    def refused(self, file: WatchedFile, sha256: str, reason: str) -> None:
        """The file is not published because different content was published under its name."""
        self._note(file, "changed", sha256, reason)
        self._metrics.files.labels("changed").inc()

    def failed(self, file: WatchedFile, error: Exception) -> None:
        """The file cannot be published."""
        if not isinstance(error, LakefeedError):
            log.error("Unexpected error", exc_info=error)
            error = LakefeedError(f"{error!r}. Please report it, with the log lines above")
        log.error("%s cannot be published: %s", file.name, visible(str(error)))
        self._metrics.count_error(error)
        self._metrics.files.labels("failed").inc()
        entry = self._ledger.entry(file.path.name)
        self._note(file, "failed", entry.sha256 if entry else None, str(error))
        self._failed_names.add(file.path.name)

    def busy(self, file: WatchedFile, error: BusyError) -> None:
        """Another producer is publishing the file; logged once."""
        if file.path.name not in self._busy_names:
            log.warning("%s", visible(str(error)))
            self._metrics.count_error(error)
        self._busy_names.add(file.path.name)

    def not_busy(self, file: WatchedFile) -> None:
        """No other producer is publishing the file."""
        self._busy_names.discard(file.path.name)

    def _advice(self, file: WatchedFile, before: Content, beat: Callable[[], None]) -> str:
        """How to publish the changes so that no row is published twice."""
        if not before.done:
            # The number of its rows in the topic is not known exactly.
            return HOW_TO_PUBLISH_CHANGES
        entry = self._ledger.entry(file.path.name)
        size = int(entry.mark.partition(":")[0]) if entry is not None else 0
        if not begins_with(file.path, size, before.sha256, beat):
            return "Put the rows that are not published yet, below the header, into a file with another name"
        last = f"row {before.rows:,}, the last one that is published"
        cut = "" if ends_with_line(file.path, size) else ". That row was published before it was complete"
        return f"Put the rows after {last}, below the header, into a file with another name{cut}"

    def _note(self, file: WatchedFile, outcome: Outcome, sha256: str | None, reason: str = "") -> None:
        self._ledger.note(Entry(file.path.name, file.mark, sha256, outcome, reason))
