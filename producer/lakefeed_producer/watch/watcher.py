"""The work loop of `watch`: publishes each file that is complete, and keeps the connection to the broker."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from lakefeed_common.errors import LakefeedError, RefusedError, SettingsError, UnavailableError
from lakefeed_producer.errors import BusyError, Stopped
from lakefeed_producer.publish.destination import Destination
from lakefeed_producer.watch.context import LOOP, WatchContext
from lakefeed_producer.watch.folder import Folder, WatchedFile
from lakefeed_producer.watch.outcomes import Outcomes
from lakefeed_producer.watch.publishing import FolderPublishing

log = logging.getLogger(__name__)

# How often an idle watcher checks whether the broker still responds.
_PROBE_SECONDS = 10.0


class Link(Protocol):
    """The connection to the broker, reopened when needed."""

    def open(self, while_waiting: Callable[[str], None]) -> Destination:
        """A usable topic.

        Raises:
            LakefeedError: there is none now.
        """

    def drop(self) -> None:
        """Close the connection: the next `open` makes a new one."""

    def is_usable(self) -> bool:
        """Whether the broker responds and has the topic."""


class Watcher:
    """The work loop.

    Args:
        folder: where the files appear.
        link: the connection to the broker.
        context: what the parts of a watcher share.
        poll_seconds: pause between two scans of the folder.
    """

    def __init__(self, folder: Folder, link: Link, context: WatchContext, poll_seconds: float) -> None:
        self._folder = folder
        self._link = link
        self._context = context
        self._poll_seconds = poll_seconds
        self._outcomes = Outcomes(context.ledger, context.metrics)
        self._publishing = FolderPublishing(context, self._outcomes)
        self._probed = context.clock()

    def run(self) -> None:
        """Work until a stop is requested."""
        context = self._context
        try:
            while not context.stop.is_set():
                context.health.beat(LOOP)
                if not self.round():
                    context.stop.wait(self._poll_seconds)
        except Stopped:
            pass
        finally:
            self._link.drop()
            context.health.retire(LOOP)

    def round(self) -> bool:
        """Publish the files that are complete; False if there are none, or the broker is unreachable."""
        context = self._context
        try:
            destination = self._link.open(self._while_waiting)
            self._probe()
        except SettingsError:
            raise
        except LakefeedError as error:
            self._broker_unreachable(error)
            return False
        context.health.ready("kafka")
        has_worked = False
        for file in self._folder.settled():
            if context.stop.is_set():
                break
            context.health.beat(LOOP)
            if self._outcomes.is_final(file) or not self._folder.is_complete(file):
                continue
            try:
                has_worked |= self._publish(file, destination)
            except (UnavailableError, RefusedError) as error:
                log.warning("%s: %s. It resumes when the broker is available", file.name, error)
                self._broker_unreachable(error)
                return False
        return has_worked

    def _publish(self, file: WatchedFile, destination: Destination) -> bool:
        """Publish a file; False if another producer is publishing it."""
        try:
            self._publishing.publish(file, destination)
        except BusyError as error:
            self._outcomes.busy(file, error)
            return False
        except (UnavailableError, RefusedError, Stopped):
            raise
        except Exception as error:
            # One file must not end the work on the others.
            destination.publisher.abandon()
            self._outcomes.failed(file, error)
        self._outcomes.not_busy(file)
        return True

    def _while_waiting(self, reason: str) -> None:
        if reason:
            self._context.health.unready("kafka", reason)
        self._context.beat()

    def _probe(self) -> None:
        now = self._context.clock()
        if now - self._probed < _PROBE_SECONDS:
            return
        self._probed = now
        if not self._link.is_usable():
            self._link.drop()
            self._link.open(self._while_waiting)

    def _broker_unreachable(self, error: LakefeedError) -> None:
        self._context.metrics.count_error(error)
        self._context.health.unready("kafka", str(error))
        self._link.drop()
