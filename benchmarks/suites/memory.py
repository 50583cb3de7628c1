"""Measures the peak resident memory of producer and consumer, by the number of rows.

The producer publishes a CSV file, and the consumer stores it with the instant server. The peak is the
kernel's (`VmHWM`), polled until the end, of the process and its descendants.

Memory hardly varies, so only the smallest size is measured several times; the ratio refers to its median. The
consumer takes more than five minutes for the largest one. In a run of all suites it is stopped after five
minutes, and the figure says how far it got; `make bench SUITE=memory` waits for the end.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure, Result, Target
from benchmarks.processes import peak_mib
from benchmarks.programs import HEADERS_MORE, NGINX
from benchmarks.rows import write_small
from benchmarks.stores import Instant, instant
from benchmarks.suite import Bench, Suite
from benchmarks.topics import held, topic
from benchmarks.workers import LAKEFEED, Workers, consumer_environment, without_aws

# Rows, and how often they are measured.
_SIZES = {100_000: 3, 1_000_000: 1, 10_000_000: 1}
_QUICK_SIZES = {1_000: 1, 10_000: 1}
_PARTLY_SECONDS = 320.0
_WHOLLY_SECONDS = 1_000.0
_LOOK_SECONDS = 0.1
_AT_MOST = Target("at most", 1.1)


@dataclass(frozen=True)
class Peak:
    """The peak of a process in MiB, and how many rows it had done by then."""

    mib: float
    rows: int


@dataclass(frozen=True)
class Peaks:
    """Both services on the same rows."""

    producer: Peak
    consumer: Peak


def run(bench: Bench) -> Result:
    """Measure memory."""
    limit = _WHOLLY_SECONDS if bench.alone else _PARTLY_SECONDS
    found: dict[int, list[Peaks]] = {}
    with (
        bench.broker() as running,
        instant(bench.folder / "nginx") as store,
    ):
        for rows, times in bench.size(_SIZES, _QUICK_SIZES).items():
            csv = bench.folder / f"{rows}.csv"
            write_small(csv, rows)
            found[rows] = []
            for _ in range(times):
                found[rows].append(_both(running.bootstrap_servers, store, csv, rows, limit, bench.folder))
                bench.say(f"{rows:,} rows: {found[rows][-1]}")
            csv.unlink()
    return Result(_figures(found))


def _both(broker: str, store: Instant, csv: Path, rows: int, limit: float, folder: Path) -> Peaks:
    with topic(broker, "memory", 1) as name:
        producer = _publish(broker, name, csv, folder)
        if (there := held(broker, name)) != rows:
            raise RuntimeError(f"lakefeed-producer published {there} of {rows} rows; see {folder}")
        return Peaks(Peak(producer, rows), _store(broker, store, name, rows, limit, folder))


def _publish(broker: str, topic: str, csv: Path, folder: Path) -> float:
    command = [
        *(str(Path(sys.executable).with_name("lakefeed-producer")), "publish", str(csv)),
        *("--kafka-bootstrap-servers", broker, "--topic", topic),
        *("--rejects", str(folder / "rejects.jsonl")),
    ]
    with (folder / "producer.log").open("ab") as log:
        process = subprocess.Popen(
            command, env=without_aws(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    peak = 0.0
    try:
        while process.poll() is None:
            peak = max(peak, peak_mib(process.pid))
            time.sleep(_LOOK_SECONDS)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise RuntimeError(f"lakefeed-producer ended with {process.returncode}; see {folder}/producer.log")
    return peak


def _store(broker: str, store: Instant, topic: str, rows: int, limit: float, folder: Path) -> Peak:
    before = store.stored()
    environment = consumer_environment(broker, store, topic)
    with Workers(LAKEFEED, 1, environment, folder / "consumer.log") as group:
        end = time.monotonic() + limit
        peak, stored = 0.0, 0
        while stored < rows and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)
            group.check()
            peak = max(peak, *(peak_mib(process.pid) for process in group.processes))
            stored = min(rows, store.stored() - before)
    if stored == 0:
        raise RuntimeError(f"lakefeed-consumer stored nothing in {limit:.0f} s; see {folder}/consumer.log")
    return Peak(peak, stored)


def _figures(found: dict[int, list[Peaks]]) -> list[Figure]:
    smallest, largest = min(found), max(found)
    base_producer = statistics.median(one.producer.mib for one in found[smallest])
    base_consumer = statistics.median(one.consumer.mib for one in found[smallest])
    producer = tuple(one.producer.mib / base_producer for one in found[largest])
    consumer = tuple(one.consumer.mib / base_consumer for one in found[largest])
    sizes = f"{largest:,} rows ÷ {smallest:,} rows"
    worse = tuple(map(max, producer, consumer))
    part = _part(largest, found[largest])
    figures = [
        Figure(
            "ratio_10m_to_100k",
            f"peak memory, {sizes}, the worse service",
            worse,
            target=_AT_MOST,
            note=part,
            whole=not part,
        ),
        Figure("producer_ratio_10m_to_100k", f"peak memory of the producer, {sizes}", producer),
        Figure("consumer_ratio_10m_to_100k", f"peak memory of the consumer, {sizes}", consumer, note=part),
    ]
    for rows, rounds in found.items():
        mib = tuple(one.producer.mib for one in rounds)
        figures.append(Figure(f"producer_{rows}_mib", f"producer, {rows:,} rows", mib, "MiB"))
        mib = tuple(one.consumer.mib for one in rounds)
        figures.append(
            Figure(f"consumer_{rows}_mib", f"consumer, {rows:,} rows", mib, "MiB", note=_part(rows, rounds))
        )
    return figures


def _part(rows: int, rounds: list[Peaks]) -> str:
    """How far the consumer got, if it did not finish in time."""
    done = min(one.consumer.rows for one in rounds)
    return f"the consumer had stored {done:,} of {rows:,} rows when its time was over" if done < rows else ""


SUITE = Suite("Memory: by the number of rows", run, needs=(NGINX, HEADERS_MORE))
