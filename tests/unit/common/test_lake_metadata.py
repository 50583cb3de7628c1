from __future__ import annotations

import pytest

from lakefeed_common.errors import InputError
from lakefeed_common.lake.metadata import BatchMetadata, EventMetadata, event_metadata, hash_of
from lakefeed_common.lake.records import Partition, Record

PRICES = Partition("prices", 3)


def record(key: bytes | None = None, headers: tuple[tuple[str, bytes | None], ...] = ()) -> Record:
    return Record(PRICES, 42, 1_790_000_000_000, key, b"{}", headers)


def test_metadata_of_a_batch_survives() -> None:
    metadata = BatchMetadata(10, 8, 1_790_000_000_000, hash_of(record()), "0" * 64)
    assert BatchMetadata.parse(metadata.to_dict()) == metadata


def test_batches_of_which_something_is_missing_are_input_errors() -> None:
    metadata = BatchMetadata(10, 8, 1_790_000_000_000, "", "").to_dict()
    for name in metadata:
        with pytest.raises(InputError, match=name):
            BatchMetadata.parse({key: value for key, value in metadata.items() if key != name})
    with pytest.raises(InputError, match="damaged"):
        BatchMetadata.parse(metadata | {"lakefeed-end": "ten"})


@pytest.mark.parametrize(
    "other",
    [
        record(b"k"),
        record(headers=(("h", None),)),
        record()._replace(offset=43),
        record()._replace(timestamp_ms=0),
        record()._replace(value=b"{ }"),
    ],
)
def test_records_that_differ_have_different_hashes(other: Record) -> None:
    assert hash_of(other) != hash_of(record())


@pytest.mark.parametrize("key", [None, b"", b"\0\xff"])
@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("source", b"a.csv"), ("\u00fc", None)),
        (("a:b,c=%", b""), ("", None), ("a:b,c=%", b":,")),
        (("", None),),
        (("", b""),),
    ],
)
def test_metadata_of_an_event_survives_in_ascii(
    key: bytes | None, headers: tuple[tuple[str, bytes | None], ...]
) -> None:
    metadata = event_metadata(record(key, headers))
    assert all(
        value and f"{name}{value}".isascii() and value == value.strip() for name, value in metadata.items()
    )
    assert EventMetadata.parse(metadata) == EventMetadata(1_790_000_000_000, key, headers, ())


def test_what_is_too_long_for_s3_is_left_out_and_named() -> None:
    metadata = event_metadata(record(b"k" * 1000, (("source", b"v" * 1000),)))
    assert sum(len(name) + len(value) for name, value in metadata.items()) <= 2048
    parsed = EventMetadata.parse(metadata)
    assert (parsed.key, parsed.headers, parsed.omitted) == (b"k" * 1000, (), ("headers",))
    assert EventMetadata.parse(event_metadata(record(b"k" * 2000))).omitted == ("key",)


def test_objects_without_metadata_are_input_errors() -> None:
    with pytest.raises(InputError, match="lakefeed-timestamp"):
        EventMetadata.parse({})
