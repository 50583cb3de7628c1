"""What the commands of `lakefeed-producer` do: wires the parts and runs them."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lakefeed_common import logs
from lakefeed_common.console import stop_on_signals
from lakefeed_common.errors import ExitCode, InputError, SettingsError
from lakefeed_common.health import Health
from lakefeed_common.text import printable
from lakefeed_common.web import StatusServer
from lakefeed_producer.arrivals import Arrivals, Publication
from lakefeed_producer.delivery import DEFAULT_MAX_MESSAGE_BYTES, Batch
from lakefeed_producer.journal import Journal, Tracker
from lakefeed_producer.metrics import ProducerMetrics
from lakefeed_producer.prepare import FileOptions, check_columns, plan
from lakefeed_producer.progress import Display, display
from lakefeed_producer.publish import Plan, Progress, publish
from lakefeed_producer.rejects import RejectsFile, rejects_name
from lakefeed_producer.settings import ProducerSettings
from lakefeed_producer.source import CsvFile, claimed

# `publish` does without what only `watch` or a broker needs: a dry run is a second faster.
if TYPE_CHECKING:
    from lakefeed_producer.broker import Connection

log = logging.getLogger(__name__)

INTERRUPTED = 130


def publish_files(
    files: list[str],
    settings: ProducerSettings,
    *,
    limit: int | None,
    again: bool,
    dry_run: bool,
    rejects: Path | None,
    summary: Path | None,
    serve_metrics: bool,
) -> int:
    """Publish CSV files, and return the exit code."""
    logs.configure(settings)
    # It says where it found credentials.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    for option, output in (("--rejects", rejects), ("--summary", summary)):
        _check_output(option, output, [Path(file) for file in files])
    stop = stop_on_signals()
    job = _Job(settings, FileOptions.of(settings, limit), stop, display(), rejects, again)
    with ExitStack() as stack:
        stack.enter_context(job.screen)
        if serve_metrics:
            _serve(settings, job, stack)
        try:
            job.publish_all(stack.enter_context(_here(files, job)), files, dry_run=dry_run)
        finally:
            job.write_summary(summary)
    return job.exit_code()


def watch_folder(folder: Path, settings: ProducerSettings) -> None:
    """Publish each CSV that appears in the folder, until stopped."""
    if not folder.is_dir():
        raise SettingsError(f"there is no folder {folder} to watch. Make it, or name another")
    from lakefeed_producer.broker import BrokerLink
    from lakefeed_producer.ledger import Ledger
    from lakefeed_producer.watch import Folder, Watch

    logs.configure(settings)
    stop = stop_on_signals()
    options = FileOptions.of(settings)
    metrics = ProducerMetrics()
    health = Health(metrics, ["kafka"], stall_seconds=settings.stall_seconds)
    with Ledger(settings.state_folder) as ledger, StatusServer(settings, metrics, health) as server:
        log.info("watching %s; metrics and health on port %s", folder, server.port)
        Watch(
            Folder(folder, settings.watch_settle_seconds),
            settings.state_folder,
            options,
            ledger,
            BrokerLink(settings),
            metrics,
            health,
            stop,
            settings.watch_poll_seconds,
            settings.delivery_timeout_seconds,
        ).run()
        log.info("stopped")


def _check_output(option: str, path: Path | None, files: list[Path]) -> None:
    """Find out before anything is sent that a file cannot be written, or would replace the data."""
    if path is None:
        return
    try:
        is_there = path.exists()
        is_data = is_there and any(path.samefile(file) for file in files if _is_there(file))
        can_be_written = not path.is_dir() and os.access(path if is_there else path.parent, os.W_OK)
    except OSError:  # its name is too long
        is_data = can_be_written = False
    if is_data:
        raise SettingsError(f"{option} {path}: this is one of the CSV files. Name another")
    if not can_be_written:
        raise SettingsError(f"{option} {path}: cannot be written. Name a file in a folder that can be")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # what is wrong with it is said when it is opened
        return False


def _here(files: list[str], job: _Job) -> AbstractContextManager[list[Path]]:
    """The files by path; those of S3 are fetched."""
    if not any(file.startswith("s3://") for file in files):
        return nullcontext([Path(file) for file in files])
    # AWS's client takes longer to load than a small file to publish.
    from lakefeed_producer.s3 import fetched

    return fetched(files, job.screen.say, job.stop_or_go)


def _serve(settings: ProducerSettings, job: _Job, stack: ExitStack) -> None:
    health = Health(job.metrics, [], stall_seconds=settings.stall_seconds)
    try:
        stack.enter_context(StatusServer(settings, job.metrics, health))
    except SettingsError as error:
        job.screen.say(f"warning: no metrics are served: {error}")


@dataclass
class _Job:
    """One run of `publish`."""

    settings: ProducerSettings
    options: FileOptions
    stop: threading.Event
    screen: Display
    rejects: Path | None
    again: bool
    metrics: ProducerMetrics = field(default_factory=ProducerMetrics)
    results: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False

    def publish_all(self, paths: list[Path], origins: list[str], *, dry_run: bool) -> None:
        """Publish one file after another; the first error ends it.

        A header that cannot be used is found before anything is sent.

        Args:
            paths: the files.
            origins: what the user calls them.
            dry_run: whether to print the events instead.
        """
        files = [
            CsvFile(path, self.options.dialect, origin if origin.startswith("s3://") else None)
            for path, origin in zip(paths, origins, strict=True)
        ]
        for file in files:
            check_columns(file, self.options)
            for warning in file.warnings():
                self._warn(file, warning)
        connection = None if dry_run else self._connect()
        with ExitStack() as stack:
            if connection is not None:
                stack.callback(connection.publisher.abandon)
            opened: dict[Path, RejectsFile] = {}
            for file in files:
                # Files of one name, from several folders, share one for their rejects too.
                path = self.rejects or Path(rejects_name(file.path.name))
                if path not in opened:
                    opened[path] = stack.enter_context(RejectsFile(path, dry_run=dry_run))
                self._publish_one(file, connection, opened[path])
                if self.interrupted:
                    return

    def _connect(self) -> Connection:
        from lakefeed_producer import broker

        said: set[str] = set()

        def waiting(reason: str) -> None:
            if self.stop.is_set():
                raise typer.Exit(INTERRUPTED)
            if reason and reason not in said:
                said.add(reason)
                self.screen.say(f"waiting for Kafka at {self.settings.kafka_bootstrap_servers}: {reason}")

        connection = broker.connect(self.settings, waiting)
        for note in connection.notes:
            self.screen.say(note)
        return connection

    def _publish_one(self, file: CsvFile, connection: Connection | None, rejects: RejectsFile) -> None:
        with claimed(file.path) if connection is not None else nullcontext():
            begin = time.monotonic()
            planned = plan(file, self.options, beat=self.stop_or_go)
            if planned.warning:
                self._warn(file, planned.warning)
            tracker = self._tracker(planned, connection.journal) if connection is not None else None
            last = Progress(file.name, planned.rows)
            silence = _Silence(self.screen, self.settings.kafka_bootstrap_servers)

            def observe(progress: Progress) -> None:
                nonlocal last
                last = progress
                silence.note(progress.trouble)
                self.screen.show(progress)

            preparing = time.monotonic() - begin
            run = partial(
                publish,
                planned,
                rejects=rejects,
                metrics=self.metrics,
                stop=self.stop,
                observe=observe,
                patience_seconds=self.settings.delivery_timeout_seconds,
            )
            try:
                if connection is None or tracker is None:
                    printed = Publication.new(file.source, planned.sha256, 1, 0)
                    run(publisher=_Printer(), arrivals=Arrivals.none(printed, planned.total))
                else:
                    run(publisher=connection.publisher, arrivals=tracker.arrivals, check=tracker.check)
                    connection.journal.done(tracker)
            finally:
                self._report(file, last, preparing, rejects)
        self.interrupted = last.interrupted

    def _warn(self, file: CsvFile, warning: str) -> None:
        self.screen.say(f"warning: {printable(str(file.path))}: {warning}")

    def _tracker(self, planned: Plan, journal: Journal) -> Tracker:
        """What the topic holds of a file, and who else publishes it."""
        file = planned.file
        if self.again:
            return journal.begin(file.source, planned.sha256, planned.total)
        return journal.resume(
            file.source, planned.sha256, file.version.mtime_ns, planned.total, self.stop_or_go
        )

    def stop_or_go(self) -> None:
        """Break off when a stop was asked for before anything was sent."""
        if self.stop.is_set():
            self.screen.say("interrupted before anything was sent")
            raise typer.Exit(INTERRUPTED)

    def _report(self, file: CsvFile, progress: Progress, preparing: float, rejects: RejectsFile) -> None:
        self.results.append(
            {
                "file": printable(str(file.path)),
                "rows_read": progress.read,
                "rows_rejected": progress.rejected,
                "events_delivered": progress.delivered,
                "events_found": progress.found,
                "position": progress.position,
                "seconds": round(progress.seconds, 3),
                "preparing_seconds": round(preparing, 3),
                "rejects": printable(str(rejects.path)) if progress.rejected and rejects.writes else None,
            }
        )
        line = f"{file.name}: {progress.read:,} rows read, {progress.delivered:,} events delivered"
        line += f", {progress.rejected:,} rows rejected"
        if progress.rejected:
            line += f" ({_where(rejects)})"
        if progress.found:
            line += f", {progress.found:,} were in the topic already"
        rate = progress.delivered / progress.seconds if progress.seconds else 0
        line += f", {progress.seconds:.1f} s, {rate:,.0f} rows/s"
        self.screen.say(line)
        if progress.found and not progress.delivered and progress.position == progress.rows:
            self.screen.say(f"{file.name} is already published; --again publishes all rows anew")
        if progress.interrupted:
            self.screen.say(
                f"interrupted: every row up to {progress.position:,} of {progress.rows:,} is done, "
                "and nothing is on its way any more"
            )

    def write_summary(self, path: Path | None) -> None:
        """Write the counts of all files as one JSON object."""
        if path is None:
            return
        total = {
            name: sum(result[name] for result in self.results)
            for name in ("rows_read", "rows_rejected", "events_delivered", "events_found")
        }
        total["seconds"] = round(sum(result["seconds"] for result in self.results), 3)
        rejects = sorted({result["rejects"] for result in self.results if result["rejects"]})
        content = {"files": self.results, **total, "rejects": rejects, "interrupted": self.interrupted}
        try:
            path.write_text(json.dumps(content, indent=2) + "\n")
        except OSError as error:
            raise InputError(f"the summary {path} cannot be written: {error.strerror}") from error

    def exit_code(self) -> int:
        """0 all delivered, 3 rows were rejected, 130 interrupted."""
        if self.interrupted:
            return INTERRUPTED
        rejected = any(result["rows_rejected"] for result in self.results)
        return ExitCode.REJECTED if rejected else ExitCode.OK


def _where(rejects: RejectsFile) -> str:
    if rejects.writes:
        return f"see {rejects.path}"
    return f"not kept, as {rejects.path} has those of published files: name another with --rejects PATH"


@dataclass
class _Silence:
    """Says that the broker is silent, and that it answers again: a line each."""

    screen: Display
    servers: str
    is_silent: bool = False

    def note(self, trouble: str) -> None:
        """Told often what the trouble is; empty if there is none."""
        if self.is_silent == bool(trouble):
            return
        self.is_silent = bool(trouble)
        if trouble:
            self.screen.say(f"waiting for Kafka at {self.servers}: {trouble}")
        else:
            self.screen.say("Kafka answers again")


class _Printer:
    """A publisher that prints events to standard output."""

    max_event_bytes = DEFAULT_MAX_MESSAGE_BYTES
    trouble = ""

    def send(self, batch: Batch, go_on: Callable[[], bool]) -> None:  # noqa: ARG002
        """Print the values, one a line."""
        try:
            sys.stdout.buffer.write(b"".join(value + b"\n" for value in batch.values.to_list()))
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader, such as `head`, has seen enough. Python would complain again at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(ExitCode.OK) from None
        batch.acknowledge(len(batch))

    def wait(self, seconds: float) -> None:
        """Nothing comes back: only time goes by."""
        time.sleep(seconds)

    def abandon(self) -> None:
        """Nothing is on its way."""
