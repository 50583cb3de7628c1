"""Replays dead letters, and marks them as replayed.

A dead letter is marked once the broker has acknowledged its record. A replay that is killed in between leaves
dead letters that were sent and have no marker, and the next replay sends them again: at least once. No header
could distinguish the second record from the first, because a replayed record has exactly the original ones.
A batch is marked once all of its records are acknowledged, and otherwise sent again from its start.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, replace
from typing import Protocol

from lakefeed_common.errors import InputError, LakefeedError
from lakefeed_common.lake.records import Record
from lakefeed_consumer.dead_letters.archive import Archive, Entry, Position
from lakefeed_consumer.dead_letters.sender import RecordRefusedError


class Sender(Protocol):
    """What a replay sends with; see `RecordSender`."""

    async def send(self, topic: str, record: Record) -> Position:
        """Send a record and return its position."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a dead letter or a batch.

    Attributes:
        entry: which one; `entry.reason` says why it was not sent, if it was not.
        position: where its last record is now, None if it was not sent as a whole.
    """

    entry: Entry
    position: Position | None


async def replay(
    archive: Archive, sender: Sender, batches: AsyncIterable[list[Entry]], target: str | None
) -> AsyncIterator[Replayed]:
    """Send dead letters to a topic, or each to its own, and mark them.

    Yields:
        What became of each. One that is damaged or that the broker rejects is not sent.

    Raises:
        LakefeedError: the broker or the bucket cannot be used. What was sent is marked, if the bucket allows.
    """
    async for batch in batches:
        done: list[Replayed] = []
        failure: LakefeedError | None = None
        try:
            for entry in batch:
                done.append(await _send(archive, sender, entry, target))  # noqa: PERF401 - needed as far as it came
        except LakefeedError as error:
            failure = error
        finally:
            # Also when interrupted: what was sent must not be sent again.
            await asyncio.gather(
                *(archive.mark_replayed(each.entry.location, each.position) for each in done if each.position)
            )
        for each in done:
            yield each
        if failure is not None:
            raise failure


async def _send(archive: Archive, sender: Sender, entry: Entry, target: str | None) -> Replayed:
    position: Position | None = None
    sent = 0
    try:
        for dead_letter in await archive.dead_letters(entry):
            record = dead_letter.record
            position = await sender.send(target or record.partition.topic, record)
            sent += 1
    except (InputError, RecordRefusedError) as error:
        some = (
            f"{sent:,} of its {entry.records:,} records were sent, and the next one failed: " if sent else ""
        )
        return Replayed(replace(entry, reason=f"{some}{error}"), None)
    return Replayed(entry, position)
