"""Tokens for Amazon MSK, as aiokafka wants them."""

from __future__ import annotations

import asyncio

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from lakefeed_common import kafka
from lakefeed_common.errors import RefusedError


class MskTokens(AbstractTokenProvider):  # type: ignore[misc]  # it has no types
    """A new token for each connection, so that none is ever too old.

    Args:
        region: of the cluster.
    """

    def __init__(self, region: str) -> None:
        self._region = region

    async def token(self) -> str:
        """Sign one.

        Raises:
            KafkaConnectionError: it cannot be signed now; aiokafka tries again after errors of its own only.
        """
        try:
            token, _ = await asyncio.to_thread(kafka.msk_token, self._region)
        except RefusedError as error:
            raise KafkaConnectionError(str(error)) from error
        return token
