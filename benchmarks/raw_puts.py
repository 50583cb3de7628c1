"""obstore alone: conditional puts of the sink's bodies at full speed, without Kafka and Faust.

`python -m benchmarks.raw_puts --concurrency 64 --count 10000 --seconds 5`; the bucket is set by
AWS's variables. Prints a line of JSON: puts, seconds, CPU seconds of the whole process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from datetime import timedelta

import obstore
import uvloop
from obstore.store import S3Store

from benchmarks.stores import BUCKET, Store
from benchmarks.topics import events
from benchmarks.workers import Drained, without_aws


async def put_all(store: S3Store, bodies: list[bytes], concurrency: int, seconds: float) -> Drained:
    """Put bodies concurrently, until all are stored or the time is over."""
    folder = f"events/raw-{uuid.uuid4().hex[:8]}/dt=2013-03-01"
    numbers = iter(range(len(bodies)))
    done = 0
    began, cpu = time.monotonic(), time.process_time()

    async def one_after_another() -> None:
        nonlocal done
        for number in numbers:
            key = f"{folder}/00000-{number:020d}.json"
            await obstore.put_async(store, key, bodies[number], mode="create", use_multipart=False)
            done += 1
            if time.monotonic() - began > seconds:
                return

    await asyncio.gather(*(one_after_another() for _ in range(concurrency)))
    return Drained(done, time.monotonic() - began, time.process_time() - cpu)


def open_store(concurrency: int) -> S3Store:
    """The bucket, with one connection per put in flight."""
    return S3Store(
        BUCKET,
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        virtual_hosted_style_request=False,
        client_options={
            "allow_http": True,
            "timeout": timedelta(seconds=30),
            "pool_max_idle_per_host": str(concurrency),
        },
    )


def ceiling(store: Store, count: int, seconds: float, concurrency: int) -> Drained:
    """Measure obstore against a store, in a separate process."""
    arguments = {"concurrency": concurrency, "count": count, "seconds": seconds}
    output = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.raw_puts"),
            *(f"--{name}={value}" for name, value in arguments.items()),
        ],
        env=without_aws() | store.environment,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    return Drained(**json.loads(output))


def main() -> int:
    """Read the arguments, put, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    drained = uvloop.run(
        put_all(open_store(given.concurrency), events(given.count), given.concurrency, given.seconds)
    )
    print(
        json.dumps({"stored": drained.stored, "seconds": drained.seconds, "cpu_seconds": drained.cpu_seconds})
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
