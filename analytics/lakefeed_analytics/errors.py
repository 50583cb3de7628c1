"""Errors that only the analytics service has."""

from __future__ import annotations

from lakefeed_common.errors import InputError, LakefeedError


class StatementError(InputError):
    """A SQL statement that cannot be read, or that does more than read."""

    kind = "input"


class ConflictError(LakefeedError):
    """What was asked for is not possible in the state that things are in."""

    kind = "refused"


class QueryFailedError(ConflictError):
    """Athena ended a query without a result; the message is Athena's."""


class CrawlFailedError(LakefeedError):
    """Glue ended a crawl without success; the message is Glue's."""

    kind = "refused"
