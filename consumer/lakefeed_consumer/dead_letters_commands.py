"""What the commands of `lakefeed-consumer dead-letters` do: list, show and replay."""

from __future__ import annotations

import logging
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

import orjson
import uvloop

from lakefeed_common import logs
from lakefeed_common.errors import ExitCode
from lakefeed_common.text import lossless, message, print_table, visible, visible_json
from lakefeed_consumer.backoff import Backoff
from lakefeed_consumer.dead_letters import DeadLetter
from lakefeed_consumer.letters import Found, Letters, Place, Selection
from lakefeed_consumer.replay import Sender, replay
from lakefeed_consumer.s3 import S3ObjectStore
from lakefeed_consumer.settings import ConsumerSettings


def list_letters(settings: ConsumerSettings, selected: Selection, reason: str, *, as_json: bool) -> None:
    """Print the selected letters whose reason has this text in it."""

    async def work() -> None:
        letters = _letters(settings)
        count = 0
        async for batch in letters.read(letters.find(selected), reason):
            count += len(batch)
            if as_json:
                for found in batch:
                    _print_json(
                        {**asdict(found.place), "reason": found.reason, "damaged": found.letter is None}
                    )
            elif batch:
                _print_table(batch)
        if not count:
            _say(f"no such dead letter under s3://{settings.bucket}/{settings.dead_letter_prefix}/")

    _prepare(settings)
    uvloop.run(work())


def show_letter(settings: ConsumerSettings, letter: str) -> ExitCode:
    """Print a letter as JSON, by its key or its topic/partition/offset."""

    async def work() -> int:
        letters = _letters(settings)
        damaged = 0
        async for batch in letters.read(_each(await letters.named(letter))):
            for found in batch:
                if found.letter is None:
                    damaged += 1
                    _say(f"{found.place.key}: {found.reason}")
                else:
                    replayed = await letters.marked(found.place)
                    document = {"object": found.place.key, "replayed": replayed, **_shown(found.letter)}
                    _print_json(document, orjson.OPT_INDENT_2)
        return damaged

    _prepare(settings)
    return ExitCode.FAILED if uvloop.run(work()) else ExitCode.OK


def replay_letters(
    settings: ConsumerSettings,
    names: list[str] | None,
    selected: Selection,
    reason: str,
    *,
    to: str | None,
    again: bool,
    dry_run: bool,
) -> ExitCode:
    """Send letters back to Kafka, or print what would be sent."""
    _prepare(settings)
    work = _Replay(settings, to=to, again=again)
    uvloop.run(work.show(names, selected, reason) if dry_run else work.send(names, selected, reason))
    return ExitCode.REJECTED if work.counts["not sent"] else ExitCode.OK


def selection(topic: str | None, day: datetime | None, since: datetime | None) -> Selection:
    """Which letters are meant."""
    return Selection(
        topic, day=day.date().isoformat() if day else None, since=since.date().isoformat() if since else None
    )


class _Replay:
    """One run of `replay`."""

    def __init__(self, settings: ConsumerSettings, *, to: str | None, again: bool) -> None:
        self._settings = settings
        self._to = to
        self._again = again
        self.counts: Counter[str] = Counter()

    async def send(self, names: list[str] | None, selection: Selection, reason: str) -> None:
        """Send the letters, and say of each where it went or why it did not."""
        letters = _letters(self._settings)
        pointless = False
        async with Sender(self._settings) as sender:
            batches = letters.read(self._places(letters, names, selection), reason)
            async for found, now in replay(letters, sender, batches, self._to):
                if now is None:
                    self.counts["not sent"] += 1
                    _say(f"{found.place.key} was not sent: {found.reason}")
                else:
                    self.counts["sent"] += 1
                    pointless |= now.topic == found.place.topic and not found.reason.startswith("conflict:")
                    print(f"{visible(found.place.key)} -> {now.topic}/{now.partition}/{now.offset}")
        self._summarize()
        if pointless:
            _say(
                "hint: a record that was not a valid event is not one the second time. Unless the consumer "
                "was changed meanwhile, it becomes a dead letter again, at its new offset."
            )

    async def show(self, names: list[str] | None, selection: Selection, reason: str) -> None:
        """Print what `send` would send, as `show` does."""
        letters = _letters(self._settings)
        async for batch in letters.read(self._places(letters, names, selection), reason):
            for found in batch:
                if found.letter is None:
                    self.counts["not sent"] += 1
                    _say(f"{found.place.key} would not be sent: {found.reason}")
                else:
                    self.counts["would be sent"] += 1
                    document = _shown(found.letter)
                    _print_json({"object": found.place.key, "to": self._to or document["topic"], **document})
        self._summarize()

    async def _places(
        self, letters: Letters, names: list[str] | None, selection: Selection
    ) -> AsyncIterator[Place]:
        places = letters.snapshot(selection)
        if names:
            places = _each([place for name in names for place in await letters.named(name)])
        async for place in places:
            if place.replayed and not self._again:
                self.counts["replayed before (--again sends them once more)"] += 1
            else:
                yield place

    def _summarize(self) -> None:
        said = ", ".join(f"{count:,} {what}" for what, count in self.counts.items())
        _say(f"dead letters: {said or 'none of these'}")


def _prepare(settings: ConsumerSettings) -> None:
    """Let the libraries log only what the commands do not say, and print UTF-8."""
    logs.configure(settings)
    # They log each step and each failed try; what it comes to is our own line.
    for library in ("aiokafka", "botocore"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    lossless(sys.stdout, encoding="utf-8")


def _letters(settings: ConsumerSettings) -> Letters:
    backoff = Backoff(settings.retry_base_seconds, settings.retry_cap_seconds)
    return Letters(S3ObjectStore(settings), settings.dead_letter_prefix, backoff)


async def _each(places: list[Place]) -> AsyncIterator[Place]:
    for place in places:
        yield place


def _shown(letter: DeadLetter) -> dict[str, Any]:
    record = letter.record
    return {
        "topic": record.partition.topic,
        "partition": record.partition.number,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "reason": letter.reason,
        **_text("key", record.key),
        "headers": [{"name": name, **_text("value", value)} for name, value in record.headers],
        **_text("value", record.value),
    }


def _text(name: str, data: bytes | None) -> dict[str, str | None]:
    try:
        return {name: None if data is None else data.decode()}
    except UnicodeDecodeError as error:
        return {f"{name}_base64": b64encode(error.object).decode()}


def _print_json(document: dict[str, Any], option: int = 0) -> None:
    print(visible_json(orjson.dumps(document, option=option).decode()))


def _print_table(batch: list[Found]) -> None:
    """A table for each batch: a terminal shows about so many lines, and memory stays bounded."""
    lines = [
        [
            found.place.topic,
            found.place.day,
            str(found.place.partition),
            str(found.place.offset),
            "yes" if found.place.replayed else "",
            found.reason,
        ]
        for found in batch
    ]
    print_table(("topic", "day", "partition", "offset", "replayed", "reason"), lines)


def _say(text: str) -> None:
    print(message(text), file=sys.stderr)
