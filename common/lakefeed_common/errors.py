"""The errors a user or an operator is told about, and the exit codes that scripts can use."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What a command of any Lakefeed service returns."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REJECTED = 3


class LakefeedError(Exception):
    """Root of all errors with a message made for the user: what is wrong, where, what to do.

    `kind` is the bounded label of the error metrics; `retryable` says whether the same
    call may succeed later without anybody changing anything.
    """

    kind: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    exit_code: ClassVar[ExitCode] = ExitCode.FAILED


class SettingsError(LakefeedError):
    """A setting or an option has a value that cannot be used."""

    kind = "settings"
    exit_code = ExitCode.USAGE


class InputError(LakefeedError):
    """The user's data cannot be read or does not mean what it should."""

    kind = "input"


class UnavailableError(LakefeedError):
    """Something we depend on does not answer now; trying again later can help."""

    kind = "unavailable"
    retryable = True


class RefusedError(LakefeedError):
    """Something we depend on answered no: somebody has to change a setting or a right."""

    kind = "refused"


class MissingError(LakefeedError):
    """What was asked for does not exist."""

    kind = "missing"
