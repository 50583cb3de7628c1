"""Configuration of aiokafka's clients: security, tokens for Amazon MSK, and the loop's exception handler."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from lakefeed_common import kafka
from lakefeed_common.errors import LakefeedError
from lakefeed_common.settings import KafkaSettings

log = logging.getLogger(__name__)


def options(settings: KafkaSettings) -> dict[str, Any]:
    """The security settings as arguments of aiokafka."""
    protocol = settings.kafka_security_protocol
    found: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        found["ssl_context"] = settings.kafka_ssl_context()
    if not protocol.startswith("SASL"):
        return found
    if settings.kafka_sasl_mechanism == "AWS_MSK_IAM":
        tokens = MskTokens(settings.aws_region)
        return found | {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": tokens}
    secret = settings.kafka_sasl_password
    return found | {
        "sasl_mechanism": settings.kafka_sasl_mechanism,
        "sasl_plain_username": settings.kafka_sasl_username,
        "sasl_plain_password": secret.get_secret_value() if secret else None,
    }


def quiet_lost_connections(loop: asyncio.AbstractEventLoop) -> None:
    """Do not log lost connections a second time: the user of a connection already handles its error.

    asyncio reports it again as never retrieved if the garbage collector finalizes the parts of the connection
    in an unexpected order.
    """

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        lost = isinstance(context.get("exception"), ConnectionError | ssl.SSLError)
        if lost and "never retrieved" in context["message"]:
            log.debug("Lost connection: %s", context["exception"])
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)


class MskTokens(AbstractTokenProvider):  # type: ignore[misc]  # it has no types
    """Provides a new token for each connection, so that none expires.

    Args:
        region: region of the cluster.
    """

    def __init__(self, region: str) -> None:
        self._region = region

    async def token(self) -> str:
        """Sign a token.

        Raises:
            KafkaConnectionError: it cannot be signed now; aiokafka only retries after errors of its own.
        """
        try:
            token, _ = await asyncio.to_thread(kafka.msk_token, self._region)
        except LakefeedError as error:
            raise KafkaConnectionError(str(error)) from error
        return token
