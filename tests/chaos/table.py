"""What the Iceberg table of a run holds: read by PyIceberg's own reader, compared with the records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pyiceberg.table import StaticTable

from tests.chaos.verify import Entry, RowId, Verdict

_OWN = ("kafka_partition", "kafka_offset", "kafka_timestamp", "dt", "unfit")

Row = Mapping[str, Any]


def read_rows(metadata_location: str, access: Mapping[str, str]) -> list[dict[str, Any]]:
    """All rows of the table's current snapshot.

    Args:
        metadata_location: what the catalogue says.
        access: AWS's variables that lead to the S3 server.
    """
    table = StaticTable.from_metadata(
        metadata_location,
        {
            "s3.endpoint": access["AWS_ENDPOINT_URL"],
            "s3.region": access["AWS_REGION"],
            "s3.access-key-id": access["AWS_ACCESS_KEY_ID"],
            "s3.secret-access-key": access["AWS_SECRET_ACCESS_KEY"],
        },
    )
    rows: list[dict[str, Any]] = table.scan().to_arrow().to_pylist()
    return rows


def check_table(
    rows: Iterable[Row], records: Sequence[Entry], events: Mapping[RowId, Mapping[str, Any]], verdict: Verdict
) -> None:
    """Note each event that is not exactly one row of the table, and each row that is not its event."""
    missing = {(record.partition, record.offset): record for record in records if record.row in events}
    for row in rows:
        verdict.table_rows += 1
        place = row["kafka_partition"], row["kafka_offset"]
        record = missing.pop(place, None)
        if record is None:
            verdict.note("table_doubled", f"the table has a row of {place} that is not an event's only one")
        elif (problem := _difference(row, record, events[record.row])) is not None:
            verdict.note("table_altered", f"the table's row of {place}: {problem}")
    for place, record in missing.items():
        verdict.note("table_lost", f"the table has no row of {place}, {record.row}")


def _difference(row: Row, record: Entry, event: Mapping[str, Any]) -> str | None:
    """What is wrong with a row; None if it is its event and nothing else."""
    values = {name: value for name, value in row.items() if name not in _OWN and value is not None}
    expected = {name: value for name, value in event.items() if value is not None}
    if values != expected or row["unfit"]:
        return f"{values}, unfit {row['unfit']}, instead of {expected}"
    timestamp: datetime = row["kafka_timestamp"]
    if (row["dt"], round(timestamp.timestamp() * 1000)) != (record.day, record.timestamp_ms):
        return f"{row['dt']} {timestamp}, instead of {record.day} {record.timestamp_ms}"
    return None
