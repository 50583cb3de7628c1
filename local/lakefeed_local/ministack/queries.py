"""Athena's queries: one for each ClientRequestToken, and timestamps as Athena writes them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lakefeed_local.ministack.asgi import Action, Answer, Call

# As Python writes a timestamp with a time zone.
_ZONED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?[+-]\d\d:\d\d(:\d\d)?")


class Queries:
    """The actions of Athena that MiniStack's answers differ in."""

    def __init__(self) -> None:
        # (account, region, ClientRequestToken) -> the statement and the answer to its start
        self._started: dict[tuple[str, str, str], tuple[str, Answer]] = {}
        self._starting = asyncio.Lock()

    @property
    def actions(self) -> Mapping[str, Action]:
        """By `X-Amz-Target`."""
        return {
            "AmazonAthena.StartQueryExecution": self._start,
            "AmazonAthena.GetQueryResults": self._results,
        }

    async def _start(self, call: Call) -> Answer:
        """Start a query; a start that is retried with its token is the same query."""
        token, statement = call.data.get("ClientRequestToken"), call.data.get("QueryString", "")
        if token is None:
            return await call.forward()
        async with self._starting:
            known = self._started.get((*call.owner, token))
            if known is None:
                answer = await call.forward()
                if answer.succeeded:
                    self._started[(*call.owner, token)] = (statement, answer)
                return answer
        if known[0] != statement:
            return Answer.error("InvalidRequestException", "Idempotent parameters do not match")
        return known[1]

    async def _results(self, call: Call) -> Answer:
        answer = await call.forward()
        results = answer.data.get("ResultSet", {})
        columns = results.get("ResultSetMetadata", {}).get("ColumnInfo", [])
        timestamps = [number for number, column in enumerate(columns) if column.get("Type") == "timestamp"]
        for row in results.get("Rows", []):
            for number in timestamps:
                _rewrite(row["Data"][number])
        return answer


def _rewrite(cell: dict[str, Any]) -> None:
    text = cell.get("VarCharValue", "")
    if _ZONED.fullmatch(text):
        moment = datetime.fromisoformat(text).astimezone(UTC)
        cell["VarCharValue"] = f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d} UTC"
