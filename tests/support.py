"""What tests of several parts share."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from lakefeed_local.files import locked

T = TypeVar("T")
# Settings of a broker that nobody kills. With the 6 s of `server.properties` a machine under full load loses
# it now and then: ZooKeeper ends its session, and what it is asked meanwhile fails.
PATIENT = {"zookeeper.session.timeout.ms": "40000"}


def wait_for(
    condition: Callable[[], T],
    timeout: float = 30,
    message: str | Callable[[], str] = "",
    every: float = 0.05,
) -> T:
    """Call a condition until it gives something true, and return that.

    Raises:
        AssertionError: it did not within `timeout` seconds; with the message.
    """
    end = time.monotonic() + timeout
    while True:
        # A look that took long may be an old one: the last begins when the time is up.
        last = time.monotonic() > end
        if result := condition():
            return result
        if last:
            said = message() if callable(message) else message
            raise AssertionError(f"not within {timeout:.0f} s: {said or condition}")
        time.sleep(every)


@contextmanager
def own_folder(path: Path) -> Iterator[None]:
    """Make a folder and all in it this run's alone: emptied now, and not by another run meanwhile.

    Raises:
        SystemExit: another run has it.
    """
    try:
        with locked(path.with_name(f"{path.name}.lock"), wait=False):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
            yield
    except BlockingIOError:
        raise SystemExit(f"error: another run uses {path}. Wait until it has ended") from None
