"""The results of a run of `publish`: lines for the user, a JSON summary, the exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakefeed_common.errors import ExitCode, InputError
from lakefeed_common.text import printable
from lakefeed_producer.publish.progress import Progress
from lakefeed_producer.publish.rejects_file import RejectsFile

INTERRUPTED = 130


@dataclass(frozen=True)
class FileResult:
    """The result for one file.

    Attributes:
        path: the file, as the user named it.
        progress: the last snapshot.
        preparing_seconds: time before the first event was sent.
        rejects: the rejects file.
    """

    path: Path
    progress: Progress
    preparing_seconds: float
    rejects: RejectsFile

    def as_dict(self) -> dict[str, Any]:
        """The result in the summary."""
        progress, rejects = self.progress, self.rejects
        return {
            "file": printable(str(self.path)),
            "rows_read": progress.read,
            "rows_rejected": progress.rejected,
            "events_delivered": progress.delivered,
            "events_found": progress.found,
            "position": progress.position,
            "seconds": round(progress.seconds, 3),
            "preparing_seconds": round(self.preparing_seconds, 3),
            "rejects": printable(str(rejects.path)) if progress.rejected and rejects.writes else None,
        }

    def lines(self) -> Iterator[str]:
        """What the user reads when the file is done."""
        progress = self.progress
        verb = "printed" if self.rejects.dry_run else "delivered"
        line = f"{progress.file}: {progress.read:,} rows read, {progress.delivered:,} events {verb}"
        line += f", {progress.rejected:,} rows rejected"
        if progress.rejected:
            line += f" ({self._where_rejects_are()})"
        if progress.found:
            line += f", {progress.found:,} already in the topic"
        rate = progress.delivered / progress.seconds if progress.seconds else 0
        yield line + f", {progress.seconds:.1f} s, {rate:,.0f} rows/s"
        if progress.found and not progress.delivered and progress.position == progress.rows:
            yield f"{progress.file} is already published. To publish all rows again, use --republish"
        if progress.interrupted:
            yield (
                f"interrupted: every row up to {progress.position:,} of {progress.rows:,} is done, "
                "and no event is in flight"
            )

    def _where_rejects_are(self) -> str:
        path = self.rejects.path
        if self.rejects.writes:
            return f"see {path}"
        return f"not kept: {path} has rejects of published files. Name another file with --rejects PATH"


@dataclass(frozen=True)
class Summary:
    """The results of all files.

    Attributes:
        results: the files that were started.
        interrupted: whether the run was stopped before the last row.
    """

    results: Sequence[FileResult]
    interrupted: bool

    def write(self, path: Path) -> None:
        """Write the counts of all files as one JSON object.

        Raises:
            InputError: the file cannot be written.
        """
        files = [result.as_dict() for result in self.results]
        total = {
            name: sum(file[name] for file in files)
            for name in ("rows_read", "rows_rejected", "events_delivered", "events_found")
        }
        total["seconds"] = round(sum(file["seconds"] for file in files), 3)
        rejects = sorted({file["rejects"] for file in files if file["rejects"]})
        content = {"files": files, **total, "rejects": rejects, "interrupted": self.interrupted}
        try:
            path.write_text(json.dumps(content, indent=2) + "\n")
        except OSError as error:
            raise InputError(f"the summary {path} cannot be written: {error.strerror}") from error

    @property
    def exit_code(self) -> int:
        """0 if all rows are delivered, 3 if rows were rejected, 130 if interrupted."""
        if self.interrupted:
            return INTERRUPTED
        rejected = any(result.progress.rejected for result in self.results)
        return ExitCode.REJECTED if rejected else ExitCode.OK
