"""Metadata of objects (`x-amz-meta-*`): what restore and the next worker need and a body does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote, unquote

import orjson

from lakefeed_common.errors import InputError
from lakefeed_common.lake.lines import decode, encode
from lakefeed_common.lake.records import Record

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html: 2 KB of names and values; what
# else is in the metadata takes some of it.
MAX_METADATA_BYTES = 1800
# Some servers drop empty values. No base64 is this one, and no quoted name.
_EMPTY = "="
_TIMESTAMP, _KEY, _HEADERS, _OMITTED = (
    "lakefeed-timestamp",
    "lakefeed-key",
    "lakefeed-headers",
    "lakefeed-omitted",
)


@dataclass(frozen=True, slots=True)
class BatchMetadata:
    """Metadata of a batch object.

    Attributes:
        end: the position after the batch: where the next one starts.
        records: how many lines it has.
        first_timestamp_ms: the first record's timestamp.
        first_hash: of the first record (see `hash_of`): how a worker recognises a batch of the same records.
        sha256: of the object's body, in hexadecimal digits.
    """

    end: int
    records: int
    first_timestamp_ms: int
    first_hash: str
    sha256: str

    def to_dict(self) -> dict[str, str]:
        """Names without `x-amz-meta-`, and values in ASCII."""
        return {
            "lakefeed-end": str(self.end),
            "lakefeed-records": str(self.records),
            "lakefeed-first-timestamp": str(self.first_timestamp_ms),
            "lakefeed-first-hash": self.first_hash,
            "lakefeed-sha256": self.sha256,
        }

    @classmethod
    def parse(cls, metadata: Mapping[str, str]) -> BatchMetadata:
        """Parse an object's metadata.

        Raises:
            InputError: something is missing or damaged.
        """
        try:
            return cls(
                int(metadata["lakefeed-end"]),
                int(metadata["lakefeed-records"]),
                int(metadata["lakefeed-first-timestamp"]),
                metadata["lakefeed-first-hash"],
                metadata["lakefeed-sha256"],
            )
        except KeyError as error:
            raise InputError(f"the object has no metadata {error.args[0]}") from error
        except ValueError as error:
            raise InputError(f"the object's metadata is damaged: {error}") from error


def hash_of(record: Record) -> str:
    """SHA-256 of a whole record, its offset and timestamp included, in hexadecimal digits."""
    headers = [[name, encode(value)] for name, value in record.headers]
    fields = [record.offset, record.timestamp_ms, encode(record.key), encode(record.value), headers]
    return sha256(orjson.dumps(fields)).hexdigest()


def event_metadata(record: Record) -> dict[str, str]:
    """Metadata of an event's own object: timestamp, key and headers of its record.

    The key is in base64. Headers are `name:value` with commas between them, the name as in a URL and the
    value in base64; a name alone has no value.

    Key or headers that are too long for S3 are left out, and named in `lakefeed-omitted`.
    """
    metadata, omitted = {_TIMESTAMP: str(record.timestamp_ms)}, []
    room = MAX_METADATA_BYTES
    if record.key is not None:
        text = encode(record.key) or _EMPTY
        if len(text) <= room:
            metadata[_KEY] = text
            room -= len(text)
        else:
            omitted.append("key")
    if record.headers:
        text = ",".join(
            [
                _quoted(name) if value is None else f"{_quoted(name)}:{encode(value)}"
                for name, value in record.headers
            ]
        )
        if len(text) <= room:
            metadata[_HEADERS] = text
        else:
            omitted.append("headers")
    if omitted:
        metadata[_OMITTED] = " ".join(omitted)
    return metadata


# The records of a topic mostly have the same headers.
@lru_cache(maxsize=256)
def _quoted(name: str) -> str:
    return quote(name, safe="") or _EMPTY


def _header(text: str) -> tuple[str, bytes | None]:
    name, colon, value = text.partition(":")
    return "" if name == _EMPTY else unquote(name, errors="strict"), decode(value) if colon else None


@dataclass(frozen=True, slots=True)
class EventMetadata:
    """Metadata of an event's own object.

    Attributes:
        timestamp_ms, key, headers: of the record.
        omitted: what was too long for the metadata: `key`, `headers`.
    """

    timestamp_ms: int
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    omitted: tuple[str, ...]

    @classmethod
    def parse(cls, metadata: Mapping[str, str]) -> EventMetadata:
        """Parse an object's metadata.

        Raises:
            InputError: the timestamp is missing (objects of before this metadata), or something is damaged.
        """
        try:
            headers = metadata[_HEADERS].split(",") if _HEADERS in metadata else []
            return cls(
                int(metadata[_TIMESTAMP]),
                b"" if metadata.get(_KEY) == _EMPTY else decode(metadata.get(_KEY)),
                tuple(map(_header, headers)),
                tuple(metadata.get(_OMITTED, "").split()),
            )
        except KeyError as error:
            raise InputError(f"the object has no metadata {error.args[0]}") from error
        except ValueError as error:
            raise InputError(f"the object's metadata is damaged: {error}") from error
