"""Decodes the lines of batch objects into columns."""

from __future__ import annotations

from lakefeed_common.errors import InputError
from lakefeed_common.lake.lines import from_line
from lakefeed_producer.restore.records import Columns


def decode_lines(topic: str, partition: int, lines: bytes) -> Columns:
    """The records of some whole lines.

    Raises:
        InputError: a line is damaged, or of another partition.
    """
    return decode_each(topic, partition, lines)


def decode_each(topic: str, partition: int, lines: bytes) -> Columns:
    """The records of some whole lines of any form, one by one."""
    records = [from_line(topic, line) for line in lines[:-1].split(b"\n")]
    for record in records:
        if record.partition.number != partition:
            raise InputError(
                f"it has a record of partition {record.partition.number} among those of {partition}"
            )
    return Columns.of(partition, records)
