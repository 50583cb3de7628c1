"""Faust's credentials for a secured broker."""

from __future__ import annotations

from typing import Any

import faust
from faust.auth import OAuthCredentials

from lakefeed_common import kafka_client
from lakefeed_common.settings import KafkaSettings


def credentials(settings: KafkaSettings) -> Any:
    """Faust's credentials for the settings' security protocol; None for PLAINTEXT."""
    options = kafka_client.options(settings)
    context = options.get("ssl_context")
    if "sasl_oauth_token_provider" in options:
        return OAuthCredentials(oauth_cb=options["sasl_oauth_token_provider"], ssl_context=context)
    if "sasl_mechanism" in options:
        return faust.SASLCredentials(
            mechanism=options["sasl_mechanism"],
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None
