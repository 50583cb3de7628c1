"""Reads objects ahead, in threads, within a limit of bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

from lakefeed_producer.restore.objects import Found
from lakefeed_producer.restore.store import Fetched

T = TypeVar("T")
AHEAD_BYTES = 8 << 20
AHEAD_OBJECTS = 64


def prefetched(
    wanted: Iterable[Found], fetch: Callable[[Found], Fetched], pool: Executor
) -> Iterator[tuple[Found, Fetched]]:
    """Yield objects in order; those after it are being read meanwhile, at least one."""
    ahead: deque[tuple[Found, Future[Fetched]]] = deque()
    left = iter(wanted)
    size = 0
    try:
        while True:
            while len(ahead) < AHEAD_OBJECTS and (len(ahead) < 2 or size < AHEAD_BYTES):
                found = next(left, None)
                if found is None:
                    break
                ahead.append((found, pool.submit(fetch, found)))
                size += found.size
            if not ahead:
                return
            found, future = ahead.popleft()
            size -= found.size
            yield found, future.result()
    finally:
        for _, future in ahead:
            future.cancel()
