"""Errors for users and operators, and exit codes for scripts."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit codes of all commands."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REJECTED = 3


class LakefeedError(Exception):
    """Root of all errors with a message for the user: what happened, where, what to do.

    `kind` is the label in the error metrics; `retryable` says whether the same call may succeed later without
    any change.
    """

    kind: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    exit_code: ClassVar[ExitCode] = ExitCode.FAILED


class SettingsError(LakefeedError):
    """A setting or an option has an invalid value."""

    kind = "settings"
    exit_code = ExitCode.USAGE


class InputError(LakefeedError):
    """The user's data cannot be read or is invalid."""

    kind = "input"


class UnavailableError(LakefeedError):
    """A dependency is unavailable; a retry may succeed."""

    kind = "unavailable"
    retryable = True


class RefusedError(LakefeedError):
    """A dependency refused the request; a setting or a permission has to be changed."""

    kind = "refused"


class MissingError(LakefeedError):
    """A requested resource does not exist."""

    kind = "missing"
