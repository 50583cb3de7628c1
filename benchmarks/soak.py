"""Memory, open files and threads of the three services over a long run at a steady rate.

A real Kafka and ZooKeeper, SeaweedFS for the objects, a local AWS for the analytics. Linux only: it reads
`/proc`. `python -m benchmarks.soak --minutes 30 --rate 300`, or `make soak`. Writes `build/soak.json`; exit
code 1 if something grew or an event is missing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from benchmarks.processes import Sample, sample
from benchmarks.rows import write_small
from lakefeed_local.aws import LocalAws
from lakefeed_local.broker import Broker
from lakefeed_local.settings import LocalSettings
from tests.helpers.folders import own_folder
from tests.helpers.seaweed import ACCESS_KEY, REGION, SECRET_KEY, SeaweedS3
from tests.helpers.services import Service
from tests.helpers.waiting import wait_for

_BUCKET = "soak"
_SAMPLE_SECONDS = 5.0
_REPORT_SECONDS = 30.0
# The last fifth of a run may exceed the second one by this much; a leak would exceed it more.
_MORE_MEMORY = 0.10
_MORE_HANDLES = 2
# The consumer has one connection per put in flight: at most 256 by default, in addition to its other handles.
# A leak would exceed this.
_POOL = 256 + 40


def median(samples: list[Sample]) -> Sample:
    """The median of each figure."""
    return Sample(
        round(statistics.median(one.memory_mib for one in samples), 1),
        round(statistics.median(one.files for one in samples)),
        round(statistics.median(one.threads for one in samples)),
    )


def grew(early: Sample, late: Sample, pool: int) -> bool:
    """Whether the later figures exceed normal fluctuation; up to `pool` handles are allowed."""
    return (
        late.memory_mib > early.memory_mib * (1 + _MORE_MEMORY)
        or late.files > max(early.files + _MORE_HANDLES, pool)
        or late.threads > max(early.threads + _MORE_HANDLES, pool)
    )


def run(minutes: float, rate: float, folder: Path) -> int:
    """Run the pipeline, take samples, write the report; returns the exit code."""
    rows = int(minutes * 60 * rate)
    with ExitStack() as running:
        running.enter_context(own_folder(folder))
        write_small(folder / "soak.csv", rows)
        broker = running.enter_context(
            Broker(folder / "broker", settings=LocalSettings(local_jvm="throughput"))
        )
        store = running.enter_context(SeaweedS3(folder / "s3"))
        aws = running.enter_context(LocalAws(folder / "aws"))
        store.client().create_bucket(Bucket=_BUCKET)
        settings = {
            "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "LAKEFEED_TOPIC": "soak",
            "LAKEFEED_BUCKET": _BUCKET,
            "LAKEFEED_STATE_FOLDER": str(folder / "state"),
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }
        to_store = {**settings, "AWS_ENDPOINT_URL": store.endpoint_url}
        publish = ("publish", str(folder / "soak.csv"), "--rate", str(rate), "--metrics")
        services = {
            "producer": Service("producer", *publish, log=folder / "producer.log", **to_store),
            "consumer": Service("consumer", "run", log=folder / "consumer.log", **to_store),
            "analytics": Service(
                "analytics",
                "serve",
                log=folder / "analytics.log",
                **settings,
                AWS_ENDPOINT_URL=aws.endpoint_url,
            ),
        }
        for service in services.values():
            running.enter_context(service)
        samples = watch(services)
        stored = wait_stored(services["consumer"], rows)
    return report(folder.parent / "soak.json", minutes, rate, rows, stored, samples)


def watch(services: dict[str, Service]) -> dict[str, list[Sample]]:
    """Take samples of all services until the producer has sent its last event."""
    samples: dict[str, list[Sample]] = {name: [] for name in services}
    began = reported = time.monotonic()
    while services["producer"].process.poll() is None:
        for name, service in services.items():
            if service.process.poll() is None:
                samples[name].append(sample(service.process.pid))
            elif name != "producer":
                raise SystemExit(f"{name} exited unexpectedly:\n{service.log[-2000:]}")
            service.get("/metrics")
        services["analytics"].get("/readyz")
        stored = services["consumer"].metric("lakefeed_consumer_objects_total")
        if time.monotonic() - reported >= _REPORT_SECONDS:
            reported = time.monotonic()
            print(f"{reported - began:6.0f} s  {stored:,.0f} events stored", file=sys.stderr)
        time.sleep(_SAMPLE_SECONDS)
    return samples


def wait_stored(consumer: Service, rows: int) -> int:
    """Wait for the last events; returns how many objects the consumer has stored."""

    def stored() -> int:
        return int(consumer.metric("lakefeed_consumer_objects_total", outcome="stored"))

    wait_for(lambda: stored() >= rows, 120, lambda: f"{stored()} of {rows} stored\n{consumer.log[-2000:]}")
    return stored()


def report(
    path: Path, minutes: float, rate: float, rows: int, stored: int, samples: dict[str, list[Sample]]
) -> int:
    """Compare the run's second fifth with its last; write and print it."""
    services = {}
    flat = True
    for name, taken in samples.items():
        fifth = max(1, len(taken) // 5)
        early, late = median(taken[fifth : 2 * fifth]), median(taken[-fifth:])
        services[name] = {"second_fifth": asdict(early), "last_fifth": asdict(late)}
        flat &= not grew(early, late, _POOL if name == "consumer" else 0)
        for figure in ("memory_mib", "files", "threads"):
            print(f"{name:10} {figure:11} {getattr(early, figure):>8} -> {getattr(late, figure):>8}")
    content = {
        "minutes": minutes,
        "rate": rate,
        "events": rows,
        "stored": stored,
        "flat": flat,
        "services": services,
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(f"{stored:,} of {rows:,} events stored; {'flat' if flat else 'NOT flat'}; {path}")
    return 0 if flat and stored == rows else 1


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=300.0, help="events per second")
    arguments = parser.parse_args()
    return run(arguments.minutes, arguments.rate, Path("build/soak"))


if __name__ == "__main__":
    sys.exit(main())
