"""Checks whether a file has been written completely, and whether it has only grown since."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_CHUNK_BYTES = 1 << 19


def has_writer(path: Path) -> bool:
    """Whether a program on this computer has a file open for writing.

    Linux answers this to the file's owner and to root, on local file systems; elsewhere the result is False.
    """
    if sys.platform != "linux":
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # Sent to us if a process opens the file for writing right now; ignored by default.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False  # not the owner, or a file system without leases
    finally:
        os.close(descriptor)
    return False


def ends_with_line(path: Path, size: int | None = None) -> bool:
    """Whether a file, or its first `size` bytes, ends with a line end.

    A few letters of UTF-16, such as U+0A05, count as line ends. False for an empty file. True for an
    unreadable one, because opening it for publishing reports the error.
    """
    try:
        with path.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END) if size is None else size
            stream.seek(max(0, end - 4))
            last = stream.read(min(4, end))
    except OSError:
        return True
    return last.rstrip(b"\0").endswith((b"\n", b"\r"))


def begins_with(path: Path, size: int, sha256: str, beat: Callable[[], None]) -> bool:
    """Whether the first `size` bytes of a file have this hash: the file has only grown."""
    digest, left = hashlib.sha256(), size
    try:
        with path.open("rb") as stream:
            while left and (chunk := stream.read(min(left, _CHUNK_BYTES))):
                digest.update(chunk)
                left -= len(chunk)
                beat()
    except OSError:
        return False
    return not left and digest.hexdigest() == sha256
