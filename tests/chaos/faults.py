"""Switches faults of a proxy on, for a time and until they have met a request."""

from __future__ import annotations

import asyncio
import time

from tests.helpers.s3_proxy import Faults, S3Proxy

_MEET_SECONDS = 300
_LOOK_SECONDS = 0.2


async def inflict(proxy: S3Proxy, faults: Faults, seconds: float) -> None:
    """Let faults happen for some seconds, and longer if there was no request that they could meet."""
    (kind,) = faults.shares
    before = proxy.counts()[kind]
    proxy.set(faults)
    await asyncio.sleep(seconds)
    # While the broker or the programs are down, there are no requests.
    end = time.monotonic() + _MEET_SECONDS
    while kind != "outage" and proxy.counts()[kind] == before and time.monotonic() < end:
        await asyncio.sleep(_LOOK_SECONDS)
    # An answer that is late is so from when it comes.
    proxy.set(Faults(seconds=faults.seconds))
