"""Logging: one line per event, as text or as JSON for log collectors."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import orjson

from lakefeed_common.settings import LogSettings
from lakefeed_common.text import message, printable

_MOST_TEMPLATES = 1_000

# The attributes of every LogRecord; others come from `extra=` and are added to the line.
_OWN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message", "data"}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _OWN}


class Repeats(logging.Filter):
    """Limits how often a library repeats a message, for example every second during an outage.

    Messages with the same logger, level and template count as the same. Lakefeed's own messages are not
    limited.

    Args:
        quiet_seconds: how long a repeated message is suppressed.
        clock: monotonic seconds.
    """

    def __init__(self, quiet_seconds: float = 300.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._quiet_seconds = quiet_seconds
        self._clock = clock
        self._logged: dict[tuple[str, int, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be logged."""
        if record.name.startswith("lakefeed") or record.levelno <= logging.DEBUG:
            return True
        now = self._clock()
        # Libraries that format the arguments into the template would fill the memory.
        if len(self._logged) > _MOST_TEMPLATES:
            self._logged.clear()
        what = (record.name, record.levelno, str(record.msg))
        if now - self._logged.get(what, -self._quiet_seconds) < self._quiet_seconds:
            return False
        self._logged[what] = now
        return True


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00Z INFO message key=value …`."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """Append the `extra=` fields to the message."""
        fields = "".join(f" {key}={value}" for key, value in _fields(record).items())
        return message(super().formatMessage(record) + fields)


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """Render the record as one JSON object."""
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        line = {key: printable(value) if isinstance(value, str) else value for key, value in line.items()}
        return orjson.dumps(line, default=str).decode()


def configure(settings: LogSettings) -> None:
    """Log to standard error, so that standard output contains only results."""
    handler = logging.StreamHandler(sys.stderr)
    form = settings.log_format
    if form == "auto":
        form = "text" if sys.stderr.isatty() else "json"
    handler.addFilter(Repeats())
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    # Failures are logged by us, without its tracebacks; below INFO it logs signed requests, including the
    # session token.
    logging.getLogger("botocore").setLevel(logging.ERROR)
