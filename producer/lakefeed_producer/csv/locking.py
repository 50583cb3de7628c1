"""Locks a CSV file so that only one producer on this computer publishes it."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lakefeed_producer.csv.file import open_file
from lakefeed_producer.errors import BusyError

log = logging.getLogger(__name__)


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; the kernel releases it when the process ends.

    On a file system without locks this only logs a warning.

    Raises:
        BusyError: another producer holds the lock.
        InputError: the file cannot be opened.
    """
    with open_file(path) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"{path} is being published by another lakefeed-producer on this computer. "
                "Wait until it has finished"
            ) from None
        except OSError as error:
            log.warning("%s cannot be locked (%s). Publish it from one place only", path, error.strerror)
        yield
