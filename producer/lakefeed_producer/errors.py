"""Errors of the producer that its commands handle by kind."""

from __future__ import annotations

from lakefeed_common.errors import InputError, LakefeedError


class BusyError(LakefeedError):
    """Another producer is publishing the same file."""

    kind = "busy"
    retryable = True


class ChangedError(InputError):
    """The topic holds rows of different content under the file's name."""


class Stopped(Exception):  # noqa: N818 - it is not an error
    """A stop was requested while a file was being prepared or the broker was awaited."""
