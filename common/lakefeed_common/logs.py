"""Logging: one line an event, for people or as JSON for collectors."""

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

# What a LogRecord carries by itself; all else came with `extra=` and belongs into the line.
_OWN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message", "data"}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _OWN}


class Repeats(logging.Filter):
    """Lets a library say the same thing once in a while, not once a second for as long as an outage lasts.

    The same is what has the same logger, level and template, whatever its arguments. Our own messages pass.

    Args:
        quiet_seconds: for how long a message is not said again.
        clock: monotonic seconds.
    """

    def __init__(self, quiet_seconds: float = 300.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._quiet_seconds = quiet_seconds
        self._clock = clock
        self._said: dict[tuple[str, int, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be logged."""
        if record.name.startswith("lakefeed") or record.levelno <= logging.DEBUG:
            return True
        now = self._clock()
        # Libraries that put the arguments into the template would fill the memory.
        if len(self._said) > _MOST_TEMPLATES:
            self._said.clear()
        what = (record.name, record.levelno, str(record.msg))
        if now - self._said.get(what, -self._quiet_seconds) < self._quiet_seconds:
            return False
        self._said[what] = now
        return True


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00Z INFO message key=value …`."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """Add the `extra=` fields behind the message."""
        fields = "".join(f" {key}={value}" for key, value in _fields(record).items())
        return message(super().formatMessage(record) + fields)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

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
    """Send all logging to standard error, so that standard output holds results only."""
    handler = logging.StreamHandler(sys.stderr)
    form = settings.log_format
    if form == "auto":
        form = "text" if sys.stderr.isatty() else "json"
    handler.addFilter(Repeats())
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    # Below that it logs requests as they are signed, with the session's token.
    logging.getLogger("botocore").setLevel(max(logging.INFO, logging.getLogger().level))
