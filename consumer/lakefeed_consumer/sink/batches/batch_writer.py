"""Stores one batch: its dead letters first, then its object."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from lakefeed_consumer.dead_letters.format import DeadLetter
from lakefeed_consumer.sink.batches.batch import Batch
from lakefeed_consumer.sink.placing import DeadLetterWriter, Placer

# Compression does not hold Python's lock: two threads keep two cores busy.
_THREADS = 2
_DEAD_LETTERS_AT_ONCE = 32


class BatchWriter:
    """Stores batches, with as many attempts as it takes.

    Args:
        placer: creates the objects.
        prefix: of the keys of batches.
        dead_letters: stores the records that are not valid events.
        dead_letter_prefix: of the keys of conflicts.
    """

    def __init__(
        self, placer: Placer, prefix: str, dead_letters: DeadLetterWriter, dead_letter_prefix: str
    ) -> None:
        self._placer = placer
        self._prefix = prefix
        self._dead_letters = dead_letters
        self._dead_letter_prefix = dead_letter_prefix
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="batches")

    def key(self, batch: Batch) -> str:
        """The key of a batch's object."""
        return batch.key(self._prefix, self._dead_letter_prefix)

    async def write(self, batch: Batch) -> dict[str, str] | None:
        """Create the object of a batch; if its key has one already, that one's metadata."""
        if not batch.conflict:  # it has been stored as a batch before
            await self._store(batch.dead_letters)
        body, metadata = await asyncio.get_running_loop().run_in_executor(self._threads, batch.encode)
        return await self._placer.create(self.key(batch), body, metadata.to_dict())

    async def _store(self, dead_letters: Sequence[DeadLetter]) -> None:
        for start in range(0, len(dead_letters), _DEAD_LETTERS_AT_ONCE):
            some = dead_letters[start : start + _DEAD_LETTERS_AT_ONCE]
            await asyncio.gather(*map(self._dead_letters.write, some))

    def close(self) -> None:
        """End the threads, once they have finished what they do."""
        self._threads.shutdown(wait=False, cancel_futures=True)
