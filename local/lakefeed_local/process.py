"""A child process that cannot outlive us, logs to a file and is waited for until it serves."""

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
    """A program that we start did not come up; the message has the end of its log."""


class Child:
    """A program under guard: it ends when we end, even by `kill -9`.

    Args:
        name: what people call it, for messages.
        command: the program and its arguments.
        log_file: gets its output; earlier output is kept.
        grace_seconds: how long it may take to stop before it is killed.
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
        """Whether the program still runs."""
        return self._guard.poll() is None

    def stop(self) -> None:
        """Ask the program to stop and wait until it has; it is killed if it does not."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._wait()

    def kill(self) -> None:
        """End the program at once, as a crash would."""
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
        """What this run of the program wrote so far."""
        with self.log_file.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def log_end(self) -> str:
        """The last lines that this run of the program wrote."""
        lines = self.log().splitlines()[-_LOG_LINES:]
        return "\n".join(f"  | {line}" for line in lines) or "  | (nothing)"

    def wait_until(self, serves: Callable[[], bool], limit_seconds: float) -> None:
        """Wait until the program serves.

        Raises:
            StartError: it ended, or was not up in time; with the end of its log. It is stopped then.
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
                    f"{self.name} does not answer after {limit_seconds:.0f} s "
                    f"(LAKEFEED_LOCAL_START_SECONDS). The end of its log, {self.log_file}:\n{said}"
                )
            time.sleep(0.05)


def reachable(host: str) -> str:
    """The address at which programs on this machine reach what listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on now."""
    with listen(host, 0, "port") as probe:
        port: int = probe.getsockname()[1]
        return port


def check_free(host: str, port: int, variable: str) -> None:
    """Refuse a port that another program listens on.

    Raises:
        SettingsError: names the variable that sets the port.
    """
    listen(host, port, variable).close()


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Hold a state folder for this process alone.

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
