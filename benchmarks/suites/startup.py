"""Measures startup time, idle CPU and memory of the services, and the sizes of their images.

The consumer starts in a new group with an event in its topic, and is measured until SeaweedFS has the object.
The others are measured until `/readyz` returns 200. Idle usage is measured for all three together, after
startup.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.figures import Figure, Result
from benchmarks.processes import cpu_seconds, memory_mib
from benchmarks.stores import Seaweed, seaweed
from benchmarks.suite import Bench, Suite
from benchmarks.topics import fill, topic
from benchmarks.workers import consumer_environment
from lakefeed_local.aws import LocalAws
from tests.helpers.services import Service
from tests.helpers.waiting import wait_for

_ROUNDS = 3
_START_SECONDS = 60.0
_LOOK_SECONDS = 0.05
# What a start leaves to do is over by then.
_SETTLE_SECONDS = 5.0


@dataclass(frozen=True)
class Surroundings:
    """What the services are started in."""

    folder: Path
    broker: str
    store: Seaweed
    aws: str

    def producer(self) -> Service:
        """One that watches an empty folder."""
        watched = self.folder / "watched"
        watched.mkdir(exist_ok=True)
        state = {"LAKEFEED_STATE_FOLDER": str(self.folder / "state")}
        return self._service("producer", "watch", str(watched), **state)

    def consumer(self, topic: str) -> Service:
        """One in a new group."""
        return self._service("consumer", "run", LAKEFEED_TOPIC=topic)

    def analytics(self) -> Service:
        """One with a bucket that has no objects."""
        return self._service("analytics", "serve", AWS_ENDPOINT_URL=self.aws, LAKEFEED_CREATE_BUCKET="true")

    def _service(self, name: str, *arguments: str, **settings: str) -> Service:
        common = consumer_environment(self.broker, self.store, "startup")
        return Service(name, *arguments, log=self.folder / f"{name}.log", **(common | settings))


def run(bench: Bench) -> Result:
    """Measure starts and idleness, and read the images' sizes."""
    with ExitStack() as held:
        broker = held.enter_context(bench.broker()).bootstrap_servers
        store = held.enter_context(seaweed(bench.folder / "seaweedfs"))
        aws = held.enter_context(LocalAws(bench.folder / "aws")).endpoint_url
        around = Surroundings(bench.folder, broker, store, aws)
        started = bench.rounds(
            _ROUNDS,
            {
                "consumer run: first object": partial(_until_stored, around),
                "producer watch: ready": partial(_until_ready, around.producer),
                "analytics serve: ready": partial(_until_ready, around.analytics),
            },
        )
        bench.say("all three idle")
        idle = _idle(around, bench.size(_ROUNDS, 1), bench.size(5.0, 1.0))
    starts = [
        Figure(f"{what.split()[0]}_start_seconds", f"start of {what}", tuple(seconds), "s")
        for what, seconds in started.items()
    ]
    return Result([*starts, *idle, *_images()])


def _until_stored(around: Surroundings) -> float:
    with topic(around.broker, "startup", 1) as name:
        fill(around.broker, name, 1, [b'{"first":true}'])
        before, began = around.store.stored(), time.monotonic()
        with around.consumer(name) as service:
            wait_for(
                lambda: around.store.stored() > before,
                _START_SECONDS,
                lambda: f"the first object was not stored\n{service.log[-2000:]}",
                every=_LOOK_SECONDS,
            )
            return time.monotonic() - began


def _until_ready(make: Callable[[], Service]) -> float:
    began = time.monotonic()
    with make() as service:
        service.wait_ready(_START_SECONDS)
        return time.monotonic() - began


def _idle(around: Surroundings, windows: int, seconds: float) -> list[Figure]:
    """CPU and memory of each service over some windows in which nothing happens."""
    with ExitStack() as held:
        name = held.enter_context(topic(around.broker, "idle", 1))
        services = {
            "producer": held.enter_context(around.producer()),
            "consumer": held.enter_context(around.consumer(name)),
            "analytics": held.enter_context(around.analytics()),
        }
        for service in services.values():
            service.wait_ready(_START_SECONDS)
        time.sleep(_SETTLE_SECONDS)
        cpu: dict[str, list[float]] = {service: [] for service in services}
        memory: dict[str, list[float]] = {service: [] for service in services}
        for _ in range(windows):
            before = {key: cpu_seconds(service.process.pid) for key, service in services.items()}
            time.sleep(seconds)
            for key, service in services.items():
                used = cpu_seconds(service.process.pid) - before[key]
                cpu[key].append(used / seconds * 100)
                memory[key].append(memory_mib(service.process.pid))
    figures = []
    for key in services:
        figures.append(
            Figure(f"{key}_idle_cpu_percent", f"{key}, idle: CPU of one core", tuple(cpu[key]), "%")
        )
        figures.append(Figure(f"{key}_idle_mib", f"{key}, idle: memory", tuple(memory[key]), "MiB"))
    return figures


def _images() -> list[Figure]:
    """Sizes of the images that `make up` builds, where they are."""
    tag = os.environ.get("LAKEFEED_VERSION", "dev")
    return [_image(part, f"lakefeed-{part}:{tag}") for part in ("producer", "consumer", "analytics")]


def _image(part: str, image: str) -> Figure:
    key, what = f"{part}_image_mb", f"image {image}"
    if shutil.which("docker") is None:
        return Figure(key, what, (), "MB", note="Docker is not installed")
    inspected = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Size}}", image],
        capture_output=True,
        text=True,
        check=False,
    )
    if inspected.returncode:
        return Figure(key, what, (), "MB", note="`make up` builds it; " + " ".join(inspected.stderr.split()))
    return Figure(key, what, (int(inspected.stdout) / 1e6,), "MB")


SUITE = Suite("Startup and idle", run)
