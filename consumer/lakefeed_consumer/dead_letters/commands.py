"""The commands of `lakefeed-consumer dead-letters`: list, show and replay."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import orjson
import uvloop

from lakefeed_common import logs
from lakefeed_common.errors import ExitCode, InputError
from lakefeed_common.text import lossless, visible
from lakefeed_consumer.backoff import Backoff
from lakefeed_consumer.dead_letters.archive import Archive, Entry, Location, Position, Selection
from lakefeed_consumer.dead_letters.output import (
    document,
    print_json,
    print_notice,
    print_rows,
)
from lakefeed_consumer.dead_letters.replay import replay
from lakefeed_consumer.dead_letters.sender import RecordSender
from lakefeed_consumer.s3.obstore import ObstoreObjectStore
from lakefeed_consumer.settings import ConsumerSettings


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """Which dead letters to replay, and where to.

    Attributes:
        names: keys or positions; if there are any, `selection` does not matter.
        selection: which ones, without names.
        target: topic to send them to; None for each to its own.
        again: whether to include those that were replayed before.
    """

    names: tuple[str, ...]
    selection: Selection
    target: str | None
    again: bool


def list_dead_letters(
    settings: ConsumerSettings,
    selection: Selection,
    print_entries: Callable[[list[Entry]], None] = print_rows,
) -> None:
    """Print the selected dead letters."""

    async def work() -> None:
        archive = _archive(settings)
        count = 0
        async for entries in archive.read(archive.find(selection), selection.reason):
            count += len(entries)
            print_entries(entries)
        if not count:
            print_notice(f"no such dead letter under s3://{settings.bucket}/{settings.dead_letter_prefix}/")

    _prepare(settings)
    uvloop.run(work())


def show_dead_letter(settings: ConsumerSettings, name: str) -> ExitCode:
    """Print a dead letter, or each record of a batch, as JSON, by its key or its topic/partition/offset."""

    async def work() -> int:
        archive = _archive(settings)
        damaged = 0
        async for entries in archive.read(_each(await archive.resolve(name))):
            for entry in entries:
                key = entry.location.key
                try:
                    dead_letters = await archive.dead_letters(entry)
                except InputError as error:
                    damaged += 1
                    print_notice(f"{key}: {error}")
                    continue
                replayed = await archive.replayed(entry.location)
                for dead_letter in dead_letters:
                    shown = {"object": key, "replayed": replayed, **document(dead_letter)}
                    print_json(shown, orjson.OPT_INDENT_2)
        return damaged

    _prepare(settings)
    return ExitCode.FAILED if uvloop.run(work()) else ExitCode.OK


def replay_dead_letters(settings: ConsumerSettings, request: ReplayRequest) -> ExitCode:
    """Send dead letters back to Kafka, and print of each where it went or why it did not."""
    _prepare(settings)
    run = _Replay(settings, request)
    uvloop.run(run.send())
    return run.exit_code


def preview_replay(settings: ConsumerSettings, request: ReplayRequest) -> ExitCode:
    """Print what a replay would send."""
    _prepare(settings)
    run = _Replay(settings, request)
    uvloop.run(run.preview())
    return run.exit_code


class _Replay:
    """One run of `replay`."""

    def __init__(self, settings: ConsumerSettings, request: ReplayRequest) -> None:
        self._settings = settings
        self._request = request
        self._counts: Counter[str] = Counter()

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.REJECTED if self._counts["not sent"] else ExitCode.OK

    async def send(self) -> None:
        archive = _archive(self._settings)
        pointless = False
        async with RecordSender(self._settings) as sender:
            async for done in replay(archive, sender, self._entries(archive), self._request.target):
                entry, position = done.entry, done.position
                if position is None:
                    self._counts["not sent"] += 1
                    print_notice(f"{entry.location.key} was not sent: {entry.reason}")
                else:
                    self._counts["sent"] += 1
                    pointless |= _comes_back(entry, position)
                    last = f" (the last of {entry.records:,} records)" if entry.batch else ""
                    print(
                        f"{visible(entry.location.key)} -> "
                        f"{position.topic}/{position.partition}/{position.offset}{last}"
                    )
        self._print_summary()
        if pointless:
            print_notice(
                "hint: a record that was not a valid event will not be valid the second time. Unless the "
                "consumer has changed meanwhile, it becomes a dead letter again, at its new offset."
            )

    async def preview(self) -> None:
        archive = _archive(self._settings)
        async for entries in self._entries(archive):
            for entry in entries:
                key = entry.location.key
                try:
                    dead_letters = await archive.dead_letters(entry)
                except InputError as error:
                    self._counts["not sent"] += 1
                    print_notice(f"{key} would not be sent: {error}")
                    continue
                self._counts["would be sent"] += 1
                for dead_letter in dead_letters:
                    shown = document(dead_letter)
                    print_json({"object": key, "to": self._request.target or shown["topic"], **shown})
        self._print_summary()

    async def _entries(self, archive: Archive) -> AsyncIterator[list[Entry]]:
        async for entries in archive.read(self._locations(archive), self._request.selection.reason):
            # All of its records were dead letters, which are objects of their own.
            empty = [entry for entry in entries if entry.batch and not entry.records]
            if empty:
                self._counts["batches without events"] += len(empty)
            yield [entry for entry in entries if entry not in empty]

    async def _locations(self, archive: Archive) -> AsyncIterator[Location]:
        request = self._request
        locations = archive.snapshot(request.selection)
        if request.names:
            locations = _each([each for name in request.names for each in await archive.resolve(name)])
        async for location in locations:
            if location.replayed and not request.again:
                self._counts["already replayed (--again sends them again)"] += 1
            else:
                yield location

    def _print_summary(self) -> None:
        counts = ", ".join(f"{count:,} {what}" for what, count in self._counts.items())
        print_notice(f"dead letters: {counts or 'none selected'}")


def _comes_back(entry: Entry, position: Position) -> bool:
    """Whether a replayed record will be dead-lettered again: all but a conflict, sent to the same topic."""
    return position.topic == entry.location.topic and not entry.reason.startswith("conflict:")


def _prepare(settings: ConsumerSettings) -> None:
    """Let libraries log only what the commands do not print, and print UTF-8."""
    logs.configure(settings)
    # It logs each step and each failed attempt; the commands print the result.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    lossless(sys.stdout, encoding="utf-8")


def _archive(settings: ConsumerSettings) -> Archive:
    backoff = Backoff(settings.retry_base_seconds, settings.retry_cap_seconds)
    return Archive(ObstoreObjectStore(settings), settings.dead_letter_prefix, backoff)


async def _each(locations: list[Location]) -> AsyncIterator[Location]:
    for location in locations:
        yield location
