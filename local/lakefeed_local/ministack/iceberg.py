"""An Iceberg table as a relation of DuckDB: what Glue's pointer names, never a newer metadata file."""

from __future__ import annotations

from typing import Any

from lakefeed_local.ministack.sql import literal
from lakefeed_local.ministack.statements import UnsupportedError


def is_iceberg(table: dict[str, Any]) -> bool:
    """Whether a table of the catalogue is an Iceberg table."""
    return str((table.get("Parameters") or {}).get("table_type", "")).upper() == "ICEBERG"


def relation(table: dict[str, Any]) -> str:
    """DuckDB's relation over the snapshot that the catalogue points to.

    A metadata file that a writer stored, but whose commit Glue refused, is no part of the table.

    Raises:
        UnsupportedError: the table has no pointer.
    """
    pointer = (table.get("Parameters") or {}).get("metadata_location")
    if not pointer:
        raise UnsupportedError(
            f"ICEBERG_INVALID_METADATA: {table.get('Name')} has no metadata_location in the catalogue"
        )
    return f"(SELECT * FROM iceberg_scan({literal(pointer)}))"  # noqa: S608 - a literal
