"""How dead letters are printed: as a table, as JSON lines, or one of them in full."""

from __future__ import annotations

import sys
from base64 import b64encode
from dataclasses import asdict
from typing import Any

import orjson

from lakefeed_common.text import message, print_table, visible_json
from lakefeed_consumer.dead_letters.archive import Entry
from lakefeed_consumer.dead_letters.format import DeadLetter


def print_rows(entries: list[Entry]) -> None:
    """Print a table for each batch: a terminal shows about that many lines, and memory stays bounded."""
    rows = [
        [
            entry.location.topic,
            entry.location.day,
            str(entry.location.partition),
            str(entry.location.offset),
            str(entry.records),
            "yes" if entry.location.replayed else "",
            entry.reason,
        ]
        for entry in entries
    ]
    if rows:
        print_table(("topic", "day", "partition", "offset", "records", "replayed", "reason"), rows)


def print_json_lines(entries: list[Entry]) -> None:
    """Print one JSON object for each dead letter or batch."""
    for entry in entries:
        found = {"records": entry.records, "reason": entry.reason, "damaged": entry.is_damaged}
        print_json({**asdict(entry.location), **found})


def print_json(document: dict[str, Any], option: int = 0) -> None:
    """Print a JSON object."""
    print(visible_json(orjson.dumps(document, option=option).decode()))


def print_notice(text: str) -> None:
    """Print a line to stderr."""
    print(message(text), file=sys.stderr)


def document(dead_letter: DeadLetter) -> dict[str, Any]:
    """A dead letter as JSON; bytes as text, or in base64 under another name if they are not UTF-8."""
    record = dead_letter.record
    return {
        "topic": record.partition.topic,
        "partition": record.partition.number,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "reason": dead_letter.reason,
        **_text("key", record.key),
        "headers": [{"name": name, **_text("value", value)} for name, value in record.headers],
        **_text("value", record.value),
    }


def _text(name: str, data: bytes | None) -> dict[str, str | None]:
    try:
        return {name: None if data is None else data.decode()}
    except UnicodeDecodeError as error:
        return {f"{name}_base64": b64encode(error.object).decode()}
