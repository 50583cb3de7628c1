"""Puts by the consumer's own client at a steady rate, without Kafka and without Faust.

`python -m benchmarks.paced_puts --prefix P --rate 1000 --seconds 6`; the settings are the consumer's.
Prints a line of JSON: when each put was begun, in nanoseconds since 1970, in the order of their keys.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

import uvloop

from benchmarks.pace import TICK_SECONDS, Pace
from benchmarks.topics import events
from lakefeed_common.settings import load
from lakefeed_consumer.s3.client import open_store
from lakefeed_consumer.settings import ConsumerSettings


def key(number: int) -> str:
    """The last part of the key of a put, as the consumer's are."""
    return f"00000-{number:020d}.json"


async def put_all(prefix: str, rate: float, seconds: float) -> list[int]:
    """Begin puts at a rate, with as many in flight as the consumer has; returns when each was begun.

    The wait of a put for one of those places is not its own: it is begun when it has one.
    """
    settings = load(ConsumerSettings)
    # The very store that the consumer would use with these settings.
    store = open_store(settings)
    bodies = events(int(rate * seconds))
    began = [0] * len(bodies)
    places = asyncio.Semaphore(settings.puts_in_flight)

    async def put(number: int) -> None:
        async with places:
            began[number] = time.time_ns()
            await store.create(f"{prefix}/{key(number)}", bodies[number])

    puts = []
    pace = Pace(rate, len(bodies))
    while not pace.over:
        puts += [asyncio.create_task(put(number)) for number in pace.due()]
        await asyncio.sleep(TICK_SECONDS)
    await asyncio.gather(*puts)
    return began


def main() -> int:
    """Read the arguments, put, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    print(json.dumps(uvloop.run(put_all(given.prefix, given.rate, given.seconds))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
