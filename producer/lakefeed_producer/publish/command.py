"""The command `publish`: wires the parts, and publishes one file after another."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from lakefeed_common import logs
from lakefeed_common.console import stop_on_signals
from lakefeed_common.errors import SettingsError
from lakefeed_common.health import Health
from lakefeed_common.text import visible
from lakefeed_common.web import StatusServer
from lakefeed_producer.csv.file import CsvFile
from lakefeed_producer.csv.locking import lock_file
from lakefeed_producer.errors import Stopped
from lakefeed_producer.metrics import ProducerMetrics
from lakefeed_producer.publish.delivery import Control
from lakefeed_producer.publish.destination import Destination
from lakefeed_producer.publish.display import Display, display
from lakefeed_producer.publish.dry_run import DryRun
from lakefeed_producer.publish.plan import Plan, check_columns
from lakefeed_producer.publish.progress import Progress
from lakefeed_producer.publish.publish_file import PublishFile, PublishOptions
from lakefeed_producer.publish.rejects_file import RejectsFile, rejects_name
from lakefeed_producer.publish.summary import FileResult, Summary
from lakefeed_producer.settings import ProducerSettings


@dataclass(frozen=True)
class Request:
    """The arguments of `publish` that are not settings.

    Attributes:
        files: paths, and addresses of objects in S3.
        limit: data rows of each file, at most.
        republish: publish all rows, whatever the topic has.
        dry_run: print the events instead.
        rejects: where rejected rows go; a file for each CSV file by default.
        summary: where the counts are written as JSON.
        metrics: serve metrics during the run.
    """

    files: Sequence[str]
    limit: int | None = None
    republish: bool = False
    dry_run: bool = False
    rejects: Path | None = None
    summary: Path | None = None
    metrics: bool = False


def publish_files(request: Request, settings: ProducerSettings) -> int:
    """Publish CSV files, and return the exit code."""
    logs.configure(settings)
    for option, output in (("--rejects", request.rejects), ("--summary", request.summary)):
        _check_output(option, output, [Path(file) for file in request.files])
    options = PublishOptions.of(settings, limit=request.limit, republish=request.republish)
    stop = stop_on_signals()
    with display() as screen, ExitStack() as stack:
        run = _Run(request, options, settings, screen, stop)
        if request.metrics:
            _serve_metrics(settings, run.metrics, screen, stack)
        return run.publish()


def _check_output(option: str, path: Path | None, files: list[Path]) -> None:
    """Check, before anything is sent, that a file can be written and is not one of the CSV files."""
    if path is None:
        return
    try:
        exists = path.exists()
        is_data = exists and any(path.samefile(file) for file in files if _exists(file))
        is_writable = not path.is_dir() and os.access(path if exists else path.parent, os.W_OK)
    except OSError:  # its name is too long
        is_data = is_writable = False
    if is_data:
        raise SettingsError(f"{option} {path}: this is one of the CSV files. Name another file")
    if not is_writable:
        raise SettingsError(f"{option} {path}: cannot be written. Name a file in a writable folder")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # reported when the file is opened
        return False


def _serve_metrics(
    settings: ProducerSettings, metrics: ProducerMetrics, screen: Display, stack: ExitStack
) -> None:
    try:
        health = Health(metrics, [], stall_seconds=settings.stall_seconds)
        stack.enter_context(StatusServer(settings, metrics, health))
    except SettingsError as error:
        screen.say(f"warning: metrics are not served: {error}")


@dataclass
class _Run:
    """One run of `publish`."""

    request: Request
    options: PublishOptions
    settings: ProducerSettings
    screen: Display
    stop: Event
    metrics: ProducerMetrics = field(default_factory=ProducerMetrics)

    def __post_init__(self) -> None:
        self._results: list[FileResult] = []
        self._interrupted = False

    def publish(self) -> int:
        """Publish one file after another; the first error ends it."""
        try:
            with self._local_files() as paths, ExitStack() as stack:
                files = self._open_files(paths)
                destination = self._destination(stack)
                for file, rejects in zip(files, self._rejects_files(files, stack), strict=True):
                    self._publish_file(file, destination, rejects)
                    if self._interrupted:
                        break
        except Stopped:
            self._interrupted = True
            next_one = "the next file" if self._results else "anything"
            self.screen.say(f"interrupted before {next_one} was sent")
        finally:
            if self.request.summary is not None:
                self._summary().write(self.request.summary)
        return self._summary().exit_code

    def _summary(self) -> Summary:
        return Summary(self._results, self._interrupted)

    def _beat(self) -> None:
        if self.stop.is_set():
            raise Stopped

    def _local_files(self) -> AbstractContextManager[list[Path]]:
        """The files by path; objects in S3 are downloaded."""
        names = self.request.files
        if not any(name.startswith("s3://") for name in names):
            return nullcontext([Path(name) for name in names])
        # AWS's client takes longer to load than a small file to publish.
        from lakefeed_producer.csv.s3 import local_copies

        return local_copies(names, self.screen.say, self._beat)

    def _open_files(self, paths: Sequence[Path]) -> list[CsvFile]:
        """Open all files, so that an unusable header is reported before anything is sent."""
        files = []
        for path, name in zip(paths, self.request.files, strict=True):
            origin = name if name.startswith("s3://") else None
            file = CsvFile(path, self.options.file.dialect, origin)
            check_columns(file, self.options.file)
            for warning in file.warnings():
                self._warn(file, warning)
            files.append(file)
        return files

    def _rejects_files(self, files: Sequence[CsvFile], stack: ExitStack) -> list[RejectsFile]:
        """The rejects file of each CSV file; files of the same name share one."""
        opened: dict[Path, RejectsFile] = {}
        paths = [self.request.rejects or Path(rejects_name(file.path.name)) for file in files]
        for path in paths:
            if path not in opened:
                opened[path] = stack.enter_context(RejectsFile(path, dry_run=self.request.dry_run))
        return [opened[path] for path in paths]

    def _destination(self, stack: ExitStack) -> Destination:
        if self.request.dry_run:
            return DryRun()
        # A dry run needs no client.
        from lakefeed_producer.kafka import connection

        connected = connection.connect(self.settings, _Waiting(self.screen, self._kafka, self._beat))
        stack.callback(connected.publisher.abandon)
        for note in connected.notes:
            self.screen.say(note)
        return connected

    @property
    def _kafka(self) -> str:
        return self.settings.kafka_bootstrap_servers

    def _publish_file(self, file: CsvFile, destination: Destination, rejects: RejectsFile) -> None:
        publish = PublishFile(destination, self.options, self.metrics, Control(self.stop, self._beat))
        with nullcontext() if self.request.dry_run else lock_file(file.path):
            started = time.monotonic()
            plan = publish.plan(file)
            if plan.warning:
                self._warn(file, plan.warning)
            tracker = publish.find_rows(plan)
            observer = _Observer(self.screen, self._kafka, plan)
            preparing_seconds = time.monotonic() - started
            try:
                publish.send(plan, tracker, rejects, observer)
            finally:
                result = FileResult(file.path, observer.last, preparing_seconds, rejects)
                self._results.append(result)
                for line in result.lines():
                    self.screen.say(line)
        self._interrupted = observer.last.interrupted

    def _warn(self, file: CsvFile, warning: str) -> None:
        self.screen.say(f"warning: {visible(str(file.path))}: {warning}")


class _Waiting:
    """Reports, once each, why the broker does not respond."""

    def __init__(self, screen: Display, kafka: str, beat: Callable[[], None]) -> None:
        self._screen = screen
        self._kafka = kafka
        self._beat = beat
        self._reported: set[str] = set()

    def __call__(self, reason: str) -> None:
        self._beat()
        if reason and reason not in self._reported:
            self._reported.add(reason)
            self._screen.say(f"waiting for Kafka at {self._kafka}: {reason}")


class _Observer:
    """Shows progress, and reports when the broker stops and resumes acknowledging.

    Attributes:
        last: the last snapshot.
    """

    def __init__(self, screen: Display, kafka: str, plan: Plan) -> None:
        self._screen = screen
        self._kafka = kafka
        self.last = Progress(plan.file.name, plan.rows)

    def __call__(self, progress: Progress) -> None:
        had_trouble = bool(self.last.trouble)
        self.last = progress
        if progress.trouble and not had_trouble:
            self._screen.say(f"waiting for Kafka at {self._kafka}: {progress.trouble}")
        elif had_trouble and not progress.trouble:
            self._screen.say("Kafka responds again")
        self._screen.show(progress)
