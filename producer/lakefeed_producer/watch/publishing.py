"""Publishes one file of the folder, or records why it is not published."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from lakefeed_common.text import visible
from lakefeed_producer.csv.file import CsvFile
from lakefeed_producer.csv.locking import lock_file
from lakefeed_producer.errors import BusyError, ChangedError
from lakefeed_producer.publish.destination import Destination, Tracker
from lakefeed_producer.publish.plan import Plan
from lakefeed_producer.publish.progress import Progress
from lakefeed_producer.publish.publish_file import PublishFile
from lakefeed_producer.publish.rejects_file import RejectsFile, rejects_name
from lakefeed_producer.watch.context import LOOP, WatchContext
from lakefeed_producer.watch.folder import WatchedFile
from lakefeed_producer.watch.ledger import Content, Ledger
from lakefeed_producer.watch.outcomes import Outcomes

log = logging.getLogger(__name__)

_SAVE_SECONDS = 1.0


class FolderPublishing:
    """Publishes the files of the folder, one at a time."""

    def __init__(self, context: WatchContext, outcomes: Outcomes) -> None:
        self._context = context
        self._outcomes = outcomes
        # Rows in the metrics, by the content's hash.
        self._counted: dict[str, int] = {}

    def publish(self, file: WatchedFile, destination: Destination) -> None:
        """Publish a file unless its content, or different content under its name, has been published.

        Raises:
            BusyError: another producer is publishing the file.
            LakefeedError: the file cannot be published, or the broker is unreachable.
            Stopped: a stop was requested before anything was sent.
        """
        context, outcomes = self._context, self._outcomes
        with lock_file(file.path):
            csv_file = CsvFile(file.path, context.options.file.dialect)
            publish = PublishFile(destination, context.options, context.metrics, context.control)
            plan = publish.plan(csv_file)
            content = context.ledger.content(plan.sha256)
            if content is not None and content.done:
                outcomes.already_done(file, content)
                return
            if (before := outcomes.earlier_content(file, plan.sha256)) is not None:
                outcomes.changed(file, before, context.beat)
                return
            for warning in filter(None, [*csv_file.warnings(), plan.warning]):
                log.warning("%s: %s", file.name, warning)
            content = content or Content(plan.sha256, file.path.name, plan.total)
            outcomes.started(file, content)
            try:
                # A file that was renamed is resumed under its first name.
                source = content.name.encode("utf-8", "surrogateescape")
                tracker = publish.find_rows(plan, source)
            except ChangedError as error:
                log.warning("%s", visible(str(error)))
                outcomes.refused(file, content.sha256, str(error))
                return
            self._send(publish, plan, tracker, file, content)

    def _send(
        self, publish: PublishFile, plan: Plan, tracker: Tracker, file: WatchedFile, content: Content
    ) -> None:
        context = self._context
        known = int(tracker.in_topic.rows.sum())
        already = f", {known} of them are in the topic already" if known else ""
        log.info("%s: publishing %s rows%s", file.name, content.rows, already)
        context.rejects_folder.mkdir(exist_ok=True)
        saver = _PositionSaver(context.ledger, content, context.clock)
        counted = max(content.position, self._counted.get(content.sha256, 0))
        try:
            with RejectsFile(context.rejects_folder / rejects_name(file.path.name)) as rejects:

                def observe(progress: Progress) -> None:
                    self._observe(progress)
                    saver.observe(progress)

                progress = publish.send(plan, tracker, rejects, observe, counted=counted)
        except BusyError as error:
            # Trying again would repeat the rows of the other producer.
            self._outcomes.failed(file, error)
            return
        finally:
            self._counted[content.sha256] = saver.read
            content = saver.save()
        if progress.interrupted:
            log.info("%s: stopped after row %s of %s", file.name, content.position, content.rows)
            return
        content = replace(content, done=True)
        context.ledger.save(content)
        self._outcomes.done(file, content)
        if content.rejected:
            log.warning("%s: %s rows were rejected, see %s", file.name, content.rejected, rejects.path)

    def _observe(self, progress: Progress) -> None:
        health = self._context.health
        health.beat(LOOP)
        if progress.trouble:
            health.unready("kafka", progress.trouble)
        else:
            health.ready("kafka")


class _PositionSaver:
    """Saves the position in a file to the ledger about once a second.

    Attributes:
        read: rows read so far.
    """

    def __init__(self, ledger: Ledger, content: Content, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._content = content
        self._clock = clock
        self._saved = clock()
        self.read = 0

    def observe(self, progress: Progress) -> None:
        """Note the position, and save it if it is time."""
        self.read = progress.read
        if progress.position >= self._content.position:
            # A run that resumes a file starts at its first row.
            position, rejected = progress.position, progress.rejected
            self._content = replace(self._content, position=position, rejected=rejected)
        if self._clock() - self._saved >= _SAVE_SECONDS:
            self.save()

    def save(self) -> Content:
        """Save the latest position."""
        self._saved = self._clock()
        self._ledger.save(self._content)
        return self._content
