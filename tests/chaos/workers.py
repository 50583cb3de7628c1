"""The processes that are killed: the consumer group's workers, and the producer."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# How long an orderly stop may take: what the drain waits, and what Faust needs to leave the group.
_STOP_SECONDS = 40
_AGAIN_SECONDS = 0.5


class Program:
    """One command that is started again whenever it is wanted and has ended, as a container's would be."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, *, cwd: Path
    ) -> None:
        self.name = log.stem
        self._command = command
        self._log = log
        self.wanted = True
        self.ends: Counter[int] = Counter()
        self._environment = dict(environment)
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0

    @property
    def alive(self) -> bool:
        """Whether it runs; also while SIGSTOP holds it."""
        return self._process is not None and self._process.poll() is None

    def tend(self) -> None:
        """Start it if it is wanted, does not run, and its pause is over; take down how it ended."""
        if self._process is not None and self._process.poll() is not None:
            self.ends[self._process.returncode] += 1
            if self._process.returncode >= 0:
                self._not_before = time.monotonic() + _AGAIN_SECONDS
            self._process = None
        if self._process is None and self.wanted and time.monotonic() >= self._not_before:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    env=self._environment,
                    cwd=self._cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )

    def kill(self, pause: float) -> None:
        """End it as a crash would; it comes back after a pause in seconds."""
        self._not_before = time.monotonic() + pause
        self.send(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    async def stop(self) -> bool:
        """Ask it to end and not to come back; whether it ended by itself with exit code 0 in time."""
        self.wanted = False
        process = self._process
        if process is None:
            return True
        self.send(signal.SIGTERM)
        try:
            return await asyncio.to_thread(process.wait, _STOP_SECONDS) == 0
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            return False

    def end(self) -> None:
        """Kill it, if it still runs, and wait until it is gone."""
        self.wanted = False
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()


class Group:
    """The workers of the consumer group: some from the beginning, others that join for a while."""

    def __init__(self, make: Callable[[int], Program], size: int) -> None:
        self._make = make
        self.workers = [make(number) for number in range(size)]

    def tend(self) -> None:
        """Start the workers that are wanted and do not run."""
        for worker in self.workers:
            worker.tend()

    async def choose(self, share: float) -> Program:
        """A worker that runs, by a number from 0 to 1; waits until there is one."""
        while not (alive := [worker for worker in self.workers if worker.alive]):
            await asyncio.sleep(0.1)
        return alive[int(share * len(alive))]

    async def kill(self, share: float, pause: float) -> str:
        """Kill a worker, which comes back after a pause; returns which."""
        worker = await self.choose(share)
        worker.kill(pause)
        return worker.name

    async def freeze(self, share: float, seconds: float) -> str:
        """Stop a worker as a hung machine would, and let it continue; returns which."""
        worker = await self.choose(share)
        worker.send(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        worker.send(signal.SIGCONT)
        return worker.name

    async def leave(self, share: float, seconds: float) -> str:
        """Let a worker leave in order and come back; returns which, and how it went."""
        worker = await self.choose(share)
        orderly = await worker.stop()
        await asyncio.sleep(seconds)
        worker.wanted = True
        return worker.name if orderly else f"{worker.name}, not in order"

    async def join(self, seconds: float) -> str:
        """Let a further worker join, and leave in order; returns which, and how it went."""
        worker = self._make(len(self.workers))
        self.workers.append(worker)
        await asyncio.sleep(seconds)
        return worker.name if await worker.stop() else f"{worker.name}, not in order"

    async def stop(self) -> int:
        """Stop all; returns how many did not end in order."""
        ends = await asyncio.gather(*(worker.stop() for worker in self.workers))
        return ends.count(False)

    def end(self) -> None:
        """Kill all that still run."""
        for worker in self.workers:
            worker.end()

    def ends(self) -> Counter[int]:
        """How workers ended, and how often: exit code, or the negative number of a signal."""
        return sum((worker.ends for worker in self.workers), Counter[int]())


def quiet_environment() -> dict[str, str]:
    """This process's environment without settings of AWS and of Lakefeed."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "LAKEFEED_")) or name == "LAKEFEED_CACHE_FOLDER"
    }
