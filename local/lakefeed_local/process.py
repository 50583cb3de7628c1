"""A child process that cannot outlive this process, logs to a file, and is waited for until it is ready."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lakefeed_common.addresses import listen
from lakefeed_common.errors import LakefeedError, SettingsError
from lakefeed_local import guard
from lakefeed_local.files import locked

_LOG_LINES = 25


class StartError(LakefeedError):
    """A program did not start; the message has the end of its log."""


class Child:
    """A program under `guard.py`: it ends when this process ends, even by `kill -9`.

    Args:
        name: its name in messages.
        command: the program and its arguments.
        log_file: its output is appended to this file.
        grace_seconds: how long a stop may take before the program is killed.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        log_file: Path,
        *,
        env: Mapping[str, str] | None = None,
        grace_seconds: float = 15,
    ) -> None:
        self.name = name
        self.log_file = log_file
        self._grace_seconds = grace_seconds
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with log_file.open("ab") as log:
            self._log_start = log.tell()
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, str(grace_seconds), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether the program is still running."""
        return self._guard.poll() is None

    def stop(self) -> None:
        """Ask the program to stop and wait until it has ended; it is killed after the grace period."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._wait()

    def kill(self) -> None:
        """Kill the program, as a crash would."""
        if self._guard.stdin is not None and self.running:
            os.write(self._guard.stdin.fileno(), b"k")
        self.stop()

    def _wait(self) -> None:
        try:
            self._guard.wait(self._grace_seconds + 5)
        except subprocess.TimeoutExpired:
            # The program dies with its guard.
            self._guard.kill()
            self._guard.wait()

    def log(self) -> str:
        """The output of this run of the program so far."""
        with self.log_file.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def log_end(self) -> str:
        """The last lines of the output of this run of the program."""
        lines = self.log().splitlines()[-_LOG_LINES:]
        return "\n".join(f"  | {line}" for line in lines) or "  | (nothing)"

    def wait_until(self, serves: Callable[[], bool], limit_seconds: float) -> None:
        """Wait until the program is ready.

        Raises:
            StartError: it ended, or was not ready in time and is stopped; with the end of its log.
        """
        end = time.monotonic() + limit_seconds
        while not serves():
            if not self.running:
                self.stop()
                raise StartError(
                    f"{self.name} ended while starting. "
                    f"The end of its log, {self.log_file}:\n{self.log_end()}"
                )
            if time.monotonic() > end:
                said = self.log_end()
                self.stop()
                raise StartError(
                    f"{self.name} is not ready after {limit_seconds:.0f} s "
                    f"(LAKEFEED_LOCAL_START_SECONDS). The end of its log, {self.log_file}:\n{said}"
                )
            time.sleep(0.05)


def reachable(host: str) -> str:
    """The address by which programs on this machine reach a listener on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on


def free_port(host: str = "127.0.0.1") -> int:
    """A port that no program listens on at the moment."""
    with listen(host, 0, "port", "LAKEFEED_LOCAL_HOST") as probe:
        port: int = probe.getsockname()[1]
        return port


def check_free(host: str, port: int, variable: str) -> None:
    """Check that no other program listens on a port.

    Raises:
        SettingsError: the port is taken; the message names the variable that sets it.
    """
    listen(host, port, variable, "LAKEFEED_LOCAL_HOST").close()


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Lock a state folder for this process.

    Raises:
        SettingsError: another run uses it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder / ".lock", wait=False):
            yield
    except BlockingIOError:
        raise SettingsError(
            f"LAKEFEED_LOCAL_FOLDER: {folder} is used by another run. Stop it, or set another folder."
        ) from None
