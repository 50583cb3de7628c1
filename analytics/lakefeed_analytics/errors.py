"""Errors of the analytics service."""

from __future__ import annotations

from lakefeed_common.errors import InputError, LakefeedError


class StatementError(InputError):
    """A SQL statement that is malformed or not read-only."""

    kind = "input"


class ConflictError(LakefeedError):
    """The request is not possible in the current state."""

    kind = "refused"


class QueryFailedError(ConflictError):
    """A query failed or was cancelled; the message is Athena's."""


class CrawlFailedError(LakefeedError):
    """A crawl did not succeed; the message is Glue's."""

    kind = "refused"
