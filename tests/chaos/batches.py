"""What the batch objects of a run hold, decoded here once more on purpose, by the contract alone."""

from __future__ import annotations

import gzip
import re
import zlib
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from tests.chaos.verify import Entry, RowId, Verdict

_KEY = re.compile(
    r"batches/(?P<topic>[^/]+)/dt=(?P<day>[0-9-]{10})/(?P<partition>\d{5})-(?P<start>\d{20})\.json\.gz"
)
_FIELD = b'"_kafka":'


def unpacked(
    topic: str, bucket: Mapping[str, bytes], records: Sequence[Entry], verdict: Verdict
) -> dict[str, bytes]:
    """The bucket with each event of a batch as the object that it would be in the other layout.

    Notes events that are stored more than once, and lines that are not what Kafka says of their record.
    """
    known = {(record.partition, record.offset): record for record in records}
    found = {key: body for key, body in bucket.items() if _KEY.fullmatch(key) is None}
    for key, body in sorted(bucket.items()):
        match = _KEY.fullmatch(key)
        if match is None or match["topic"] != topic:
            continue
        verdict.batches += 1
        last = int(match["start"]) - 1
        for entry in _entries(key, body, verdict):
            where = f"{entry.partition}/{entry.offset} in {key}"
            event_key = entry.key("events", topic)
            if event_key in found:
                verdict.note("duplicated", f"{where} is stored elsewhere as well")
                continue
            found[event_key] = entry.value or b""
            if (entry.partition, entry.day) != (
                int(match["partition"]),
                match["day"],
            ) or entry.offset <= last:
                verdict.note("altered", f"{where} does not belong there")
            last = entry.offset
            record = known.get((entry.partition, entry.offset))
            if record is not None and (record.row, record.timestamp_ms) != (entry.row, entry.timestamp_ms):
                verdict.note("altered", f"{where} is not what Kafka says: {record.row} {record.timestamp_ms}")
    return found


def _entries(key: str, body: bytes, verdict: Verdict) -> Iterator[Entry]:
    try:
        lines = gzip.decompress(body).splitlines()
    except (OSError, EOFError, zlib.error) as error:
        verdict.note("altered", f"{key} is not gzip: {error}")
        return
    for number, line in enumerate(lines, 1):
        try:
            yield _entry(line)
        except (ValueError, LookupError, TypeError) as error:
            verdict.note("altered", f"line {number} of {key}: {error!r}")


def _entry(line: bytes) -> Entry:
    """The record of a line; its value is the line without the field, byte for byte."""
    at = line.rindex(_FIELD)
    about: dict[str, Any] = orjson.loads(line[at + len(_FIELD) : -1])
    headers = {name: b64decode(value) for name, value in about["h"]}
    row: RowId = headers["source"].decode(), int(headers["row"])
    value = line[:at].removesuffix(b",") + b"}" + about.get("s", "").encode()
    return Entry(about["p"], about["o"], about["t"], row, value)
