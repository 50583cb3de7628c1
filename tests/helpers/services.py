"""Runs a service's own command as a child process, and asks it for its health and metrics."""

from __future__ import annotations

import fcntl
import functools
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers.waiting import wait_for

# Above those of a Kubernetes node on the same machine (to 10259), and below 32768, where no outgoing
# connection takes its port from (`ip_local_port_range`).
_PORTS = range(10_300, 32_700)
# Its byte at a port's number is locked by the process that was given the port, until that ends.
_LOCKS = Path(tempfile.gettempdir()) / f"lakefeed-test-ports-{os.getuid()}"
_given: set[int] = set()


@functools.cache
def _locks() -> int:
    # Never closed: to close any descriptor of the file would release all locks of the process.
    return os.open(_LOCKS, os.O_RDWR | os.O_CREAT, 0o600)


def free_port(count: int = 1) -> int:
    """A free port, or the first of several in a row, that no other test on this machine gets.

    Who asked can bind it later, and again after having left it.
    """
    while True:
        first = random.SystemRandom().randrange(_PORTS.start, _PORTS.stop - count)
        ports = range(first, first + count)
        if not _given.isdisjoint(ports):
            continue
        try:
            fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, count, first)
        except BlockingIOError:
            continue
        with ExitStack() as probes:
            try:
                for port in ports:
                    probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.update(ports)
        return first


class Endpoint(ABC):
    """Where a service answers for its health and its metrics."""

    port: int

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether it has not ended."""

    @property
    @abstractmethod
    def log(self) -> str:
        """What it has logged."""

    @abstractmethod
    def stop(self, timeout: float = 40) -> int:
        """Ask it to end, as a container's stop does; returns the exit code."""

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of an answer; status 0 while the service does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError:
            return 0, b""

    def unready_reasons(self) -> dict[str, str]:
        """What `/readyz` complains about; empty while it does not answer or all is well."""
        status, body = self.get("/readyz")
        reasons: dict[str, str] = orjson.loads(body)["reasons"] if status == 503 else {}
        return reasons

    def wait_ready(self, timeout: float = 60) -> None:
        wait_for(self._ready_or_dead, timeout, lambda: f"ready: {self.get('/readyz')}\n{self.log}")
        assert self.running, self.log

    def _ready_or_dead(self) -> bool:
        return self.get("/readyz")[0] == 200 or not self.running

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples with these labels; 0 without any, NaN while it does not answer."""
        status, body = self.get("/metrics")
        if status != 200:
            return float("nan")
        return metric_value(body.decode(), name, labels)


def metric_value(metrics: str, name: str, labels: Mapping[str, str]) -> float:
    """The sum of a metric's samples with these labels; 0 without any."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


class Service(Endpoint):
    """One process of `lakefeed-<name>`, from `with` to the end of it.

    Args:
        name: `producer`, `consumer` or `analytics`.
        arguments: what follows the command's name.
        log: file that takes what it prints.
        program: Python to run instead of the command.
        settings: environment variables on top of this process's own.
    """

    def __init__(
        self, name: str, *arguments: str, log: Path, program: str | None = None, **settings: str
    ) -> None:
        self.port = free_port()
        self._command = [str(Path(sys.executable).with_name(f"lakefeed-{name}")), *arguments]
        if program is not None:
            self._command = [sys.executable, "-c", program]
        self._environment = {**os.environ, **settings, "LAKEFEED_HTTP_PORT": str(self.port)}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    @property
    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    def stop(self, timeout: float = 40) -> int:
        """Ask it to end, as a container's stop does; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)


_ALTERNATIONS = 3
_READINESS = re.compile(r"(?:INFO|WARNING) (?P<dependency>[\w ]+) (?P<state>can be used|cannot be used: .*)")


def repeated_reasons(log: str) -> list[str]:
    """Why dependencies could not be used, as far as a reason was logged again and again within one outage.

    Reasons may alternate while a server starts or stops, but not in each round of asking.
    """
    seen: dict[str, Counter[str]] = {}
    repeated: list[str] = []
    for line in log.splitlines():
        if match := _READINESS.search(line):
            if match["state"] == "can be used":
                seen.pop(match["dependency"], None)
                continue
            reasons = seen.setdefault(match["dependency"], Counter())
            reasons[match["state"]] += 1
            if reasons[match["state"]] == _ALTERNATIONS + 1:
                repeated.append(match[0])
    return repeated
