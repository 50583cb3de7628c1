"""Tests of what aiokafka's clients want."""

from __future__ import annotations

import asyncio
import gc
import ssl

import pytest

from lakefeed_common import kafka_client


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (ssl.SSLError(1, "an alert"), 0),
        (ConnectionResetError(), 0),
        (OSError(28, "disk full"), 1),
        (ValueError(), 1),
    ],
    ids=["TLS", "reset", "disk", "bug"],
)
def test_only_errors_of_connections_stay_out_of_the_log(
    error: Exception, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def forget() -> None:
        kafka_client.quiet_lost_connections(asyncio.get_running_loop())
        asyncio.get_running_loop().create_future().set_exception(error)
        gc.collect()

    # What earlier tests have left.
    gc.collect()
    caplog.clear()
    asyncio.run(forget())
    assert [record.name for record in caplog.records] == ["asyncio"] * logged
