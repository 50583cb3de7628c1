"""Stores one batch: its dead letters first, then its object."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from lakefeed_common.errors import InputError
from lakefeed_common.lake import batches
from lakefeed_common.lake.keys import batch_key
from lakefeed_common.lake.lines import from_line
from lakefeed_common.lake.metadata import BatchMetadata
from lakefeed_consumer.dead_letters.format import DeadLetter
from lakefeed_consumer.sink.batches.batch import Batch, batch_metadata
from lakefeed_consumer.sink.placing import DeadLetterWriter, Placer

# Compression does not hold Python's lock: two threads keep two cores busy.
_THREADS = 2
_DEAD_LETTERS_AT_ONCE = 32


class Holder(NamedTuple):
    """A batch object that is stored, and the position after it."""

    key: str
    end: int


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

    async def holder(self, batch: Batch) -> Holder | None:
        """The batch that has the first event of this one already, whichever position it starts at.

        Only batches of the same day can have it. That one has the offset is not enough: a topic that was
        recreated has other events there. If there is one, the dead letters of this batch are stored.
        """
        line = batch.lines[0]
        event = from_line(batch.partition.topic, line)
        for key in await self._placer.keys_before(batch_key(self._prefix, event, event.offset + 1)):
            about = batch_metadata(await self._placer.metadata(key) or {})
            # Batches of dead letters alone can start anywhere.
            if about is not None and about.records:
                if about.end <= event.offset or not await self._has_line(key, about, line):
                    return None
                await self._store(batch.dead_letters)
                return Holder(key, about.end)
        return None

    async def _has_line(self, key: str, about: BatchMetadata, line: bytes) -> bool:
        body = await self._placer.read(key) or b""
        return await asyncio.get_running_loop().run_in_executor(self._threads, has_line, body, about, line)

    async def _store(self, dead_letters: Sequence[DeadLetter]) -> None:
        for start in range(0, len(dead_letters), _DEAD_LETTERS_AT_ONCE):
            some = dead_letters[start : start + _DEAD_LETTERS_AT_ONCE]
            await asyncio.gather(*map(self._dead_letters.write, some))

    def close(self) -> None:
        """End the threads, once they have finished what they do."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def has_line(body: bytes, metadata: BatchMetadata, line: bytes) -> bool:
    """Whether the body of a batch's object has a line; False if it is damaged."""
    try:
        return line in batches.decompressed(body, metadata).splitlines(keepends=True)
    except InputError:
        return False
