"""Athena's queries: one for each ClientRequestToken."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from lakefeed_local.ministack.asgi import Action, Answer, Call


class Queries:
    """The actions of Athena that MiniStack's answers differ in."""

    def __init__(self) -> None:
        # (account, region, ClientRequestToken) -> the statement and the answer to its start
        self._started: dict[tuple[str, str, str], tuple[str, Answer]] = {}
        self._starting = asyncio.Lock()

    @property
    def actions(self) -> Mapping[str, Action]:
        """By `X-Amz-Target`."""
        return {"AmazonAthena.StartQueryExecution": self._start}

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
