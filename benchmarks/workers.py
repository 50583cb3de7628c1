"""The processes of a consumer group, suspended until a backlog exists and then resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.processes import cpu_seconds
from benchmarks.stores import BUCKET, Store
from benchmarks.topics import events, fill, topic, wait_for_group
from tests.helpers.services import free_port
from tests.helpers.waiting import wait_for

LAKEFEED = (str(Path(sys.executable).with_name("lakefeed-consumer")), "run")
TUTORIAL = (sys.executable, "-m", "benchmarks.tutorial.agent")
_FIRST_SECONDS = 60.0


class Workers:
    """The processes of one group, running within the `with` block.

    Args:
        command: of each process.
        count: how many.
        environment: additional variables; AWS's variables are not inherited.
        log: file for their output.
    """

    def __init__(self, command: Sequence[str], count: int, environment: Mapping[str, str], log: Path) -> None:
        self.group = environment["LAKEFEED_CONSUMER_GROUP"]
        self._command = command
        self._count = count
        self._environment = without_aws() | dict(environment)
        self._log = log
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(self._count):
            environment = self._environment | {"LAKEFEED_HTTP_PORT": str(free_port())}
            with self._log.open("ab") as log:
                self.processes.append(
                    subprocess.Popen(
                        self._command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                    )
                )
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()

    def hold(self) -> None:
        """Suspend them."""
        self._send(signal.SIGSTOP)

    def release(self) -> None:
        """Resume them."""
        self._send(signal.SIGCONT)

    def cpu_seconds(self) -> float:
        """CPU time of all, since they were started."""
        return sum(cpu_seconds(process.pid) for process in self.processes)

    def check(self) -> None:
        """Raise if one has exited.

        Raises:
            RuntimeError: with the end of the log.
        """
        if any(process.poll() is not None for process in self.processes):
            output = self._log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{' '.join(self._command)} exited unexpectedly:\n{output}")

    def _send(self, number: signal.Signals) -> None:
        for process in self.processes:
            process.send_signal(number)


@dataclass(frozen=True)
class Drained:
    """How a backlog was processed.

    Attributes:
        stored: puts that the store has taken.
        seconds: from resuming the workers to the last check.
        cpu_seconds: of the workers in that time.
    """

    stored: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Stored events per second."""
        return self.stored / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU per event."""
        return self.cpu_seconds / self.stored * 1e6


@dataclass(frozen=True)
class Backlog:
    """A backlog of 200-byte events, and the maximum time.

    A slow consumer is measured over `window_seconds` of it.
    """

    events: int
    partitions: int
    window_seconds: float


def drain(
    broker: str,
    store: Store,
    backlog: Backlog,
    log: Path,
    command: Sequence[str] = LAKEFEED,
    workers: int = 1,
) -> Drained:
    """Measure how fast workers store a backlog.

    They are started first, on an empty topic, until the group is stable and an event of each partition is
    stored. Then they are suspended (SIGSTOP) while the topic is filled, and resumed: time and CPU count from
    there, without starting and joining. The store's own count determines when all events are stored.
    """
    with topic(broker, "backlog", backlog.partitions) as name:
        environment = consumer_environment(broker, store, name)
        with Workers(command, workers, environment, log) as group:
            wait_for_group(broker, group.group, name, backlog.partitions, workers)
            store_first(broker, store, name, backlog.partitions, group)
            group.hold()
            fill(broker, name, backlog.partitions, events(backlog.events))
            before, cpu_before = store.stored(), group.cpu_seconds()
            began = time.monotonic()
            group.release()
            stored, seconds = 0, 0.0
            while stored < backlog.events and seconds < backlog.window_seconds:
                time.sleep(store.look_seconds)
                stored, seconds = store.stored() - before, time.monotonic() - began
            cpu = group.cpu_seconds() - cpu_before
            group.check()
    if stored == 0:
        raise RuntimeError(f"{' '.join(command)} stored nothing in {seconds:.0f} s; see {log}")
    return Drained(stored, seconds, cpu)


def store_first(broker: str, store: Store, name: str, partitions: int, group: Workers) -> None:
    """Append an event to each partition and wait until all are stored: the workers are running then."""
    before = store.stored()
    fill(broker, name, partitions, [b'{"first":true}'] * partitions)

    def done() -> bool:
        group.check()
        return store.stored() - before >= partitions

    wait_for(done, _FIRST_SECONDS, "the first events were not stored", every=0.1)


def consumer_environment(broker: str, store: Store, topic: str) -> dict[str, str]:
    """Settings of a consumer in a separate group; only addresses and names."""
    return {
        **store.environment,
        "LAKEFEED_KAFKA_BOOTSTRAP_SERVERS": broker,
        "LAKEFEED_TOPIC": topic,
        "LAKEFEED_BUCKET": BUCKET,
        "LAKEFEED_CONSUMER_GROUP": f"bench-{uuid.uuid4().hex[:8]}",
    }


def without_aws() -> dict[str, str]:
    """This process's variables without AWS's, so that no measurement uses a real account."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
