"""The crawls of every crawler, kept in a file over a stop and a start."""

from __future__ import annotations

import json
import time
import uuid
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Key = tuple[str, str, str]
"""Account, region, and name of a crawler."""

_KEPT = 50  # crawls of each crawler
_DPU = 2  # what Glue uses for a crawl
_INTERRUPTED = "The local AWS was stopped during the crawl."
# An outcome as GetCrawler and ListCrawls name it.
_STATES = {"SUCCEEDED": "COMPLETED", "FAILED": "FAILED", "CANCELLED": "STOPPED"}


@dataclass
class Crawl:
    """One crawl; it runs until it has an outcome."""

    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: float = field(default_factory=time.time)
    ended: float | None = None
    outcome: str = ""
    error: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Whether it has no outcome yet."""
        return self.ended is None

    @property
    def seconds(self) -> float:
        """How long it took, or takes until now."""
        return (self.ended or time.time()) - self.started

    def end(self, outcome: str, error: str = "") -> None:
        """Give it its outcome: SUCCEEDED, FAILED or CANCELLED."""
        self.ended, self.outcome, self.error = time.time(), outcome, error

    def as_last(self, crawler: str) -> dict[str, Any]:
        """As GetCrawler shows the last crawl."""
        shown = {"Status": self.outcome, "StartTime": self.started, **self._log(crawler)}
        return shown | ({"ErrorMessage": self.error} if self.error else {})

    def as_entry(self, crawler: str) -> dict[str, Any]:
        """As ListCrawls shows it."""
        state = "RUNNING" if self.running else _STATES[self.outcome]
        shown = {"CrawlId": self.id, "State": state, "StartTime": self.started, **self._log(crawler)}
        if not self.running:
            shown["EndTime"] = self.ended
            shown["DPUHour"] = round(_DPU * self.seconds / 3600, 6)
            shown["Summary"] = json.dumps(self.summary)
        return shown | ({"ErrorMessage": self.error} if self.error else {})

    def _log(self, crawler: str) -> dict[str, str]:
        return {"LogGroup": "/aws-glue/crawlers", "LogStream": crawler, "MessagePrefix": self.id}


class History:
    """All crawls, oldest first; a crawl that ran when its process was stopped has failed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._crawls: defaultdict[Key, list[Crawl]] = defaultdict(list)
        if file.exists():
            for entry in json.loads(file.read_text()):
                crawls = [Crawl(**crawl) for crawl in entry["crawls"]]
                for crawl in crawls:
                    if crawl.running:
                        crawl.end("FAILED", _INTERRUPTED)
                self._crawls[tuple(entry["key"])] = crawls

    def of(self, key: Key) -> list[Crawl]:
        """The crawls of one crawler."""
        return self._crawls[key]

    def ended(self, key: Key) -> list[Crawl]:
        """Those that have ended."""
        return [crawl for crawl in self.of(key) if not crawl.running]

    def begin(self, key: Key) -> Crawl:
        """Add a crawl that starts now."""
        crawls = self._crawls[key]
        crawls.append(Crawl())
        del crawls[:-_KEPT]
        self.save()
        return crawls[-1]

    def forget(self, key: Key) -> None:
        """Remove the crawls of a crawler that was deleted."""
        self._crawls.pop(key, None)
        self.save()

    def save(self) -> None:
        """Write the file."""
        entries = [
            {"key": key, "crawls": [asdict(crawl) for crawl in crawls]}
            for key, crawls in self._crawls.items()
            if crawls
        ]
        staged = self._file.with_suffix(".new")
        staged.write_text(json.dumps(entries))
        staged.rename(self._file)
