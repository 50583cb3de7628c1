"""One view over a topic's tables in both layouts, for users who changed the layout."""

from __future__ import annotations

from collections.abc import Mapping

from lakefeed_analytics.catalogue import Table
from lakefeed_analytics.statements import quoted
from lakefeed_common.errors import InputError
from lakefeed_common.lake.lines import KAFKA_FIELD
from lakefeed_common.tables import PARTITION_KEY

_NUMBERS = frozenset({"tinyint", "smallint", "int", "bigint", "float", "double"})
_NAMES = frozenset({*_NUMBERS, "boolean", "string"})


def both_layouts(view: str, objects: Table, batches: Table) -> str:
    """The statement that creates a view over both tables, for Athena.

    The view has the columns of both, and those of Kafka that both have: `kafka_partition` and
    `kafka_offset`, which an object has in its key.

    Args:
        view: its name.
        objects: the table of one-event objects.
        batches: the table of batch objects.

    Raises:
        InputError: a column has types in the two tables that no type of Athena joins.
    """
    kinds = {each.name: _columns(each) for each in (objects, batches)}
    names = list(dict.fromkeys(name for columns in kinds.values() for name in columns))
    key = """regexp_extract("$path", '(\\d+)-(\\d+)\\.json$', {})"""
    positions = {
        objects.name: (f"CAST({key.format(1)} AS integer)", f"CAST({key.format(2)} AS bigint)"),
        batches.name: (f"{KAFKA_FIELD}.p", f"CAST({KAFKA_FIELD}.o AS bigint)"),
    }
    selects = []
    for table, other in ((objects, batches), (batches, objects)):
        columns = [_column(name, kinds[table.name], kinds[other.name]) for name in names]
        partition, offset = positions[table.name]
        columns += [f"{partition} AS kafka_partition", f"{offset} AS kafka_offset", quoted(PARTITION_KEY)]
        selects.append("SELECT\n    " + ",\n    ".join(columns) + f"\nFROM {quoted(table.name)}")
    return f"CREATE OR REPLACE VIEW {quoted(view)} AS\n" + "\nUNION ALL\n".join(selects)


def _columns(table: Table) -> dict[str, str]:
    own = (KAFKA_FIELD, "kafka_partition", "kafka_offset")
    return {each.name: each.type for each in table.columns if not each.partition and each.name not in own}


def _column(name: str, kinds: Mapping[str, str], others: Mapping[str, str]) -> str:
    kind, other = kinds.get(name), others.get(name)
    if kind is None:
        return f"NULL AS {quoted(name)}"
    if other in (None, kind) or {kind, other} <= _NUMBERS:
        return quoted(name)
    if not {kind, other} <= _NAMES:
        raise InputError(
            f"the column {name} is {kind} in one table and {other} in the other, which no type of a view "
            "joins. Query the topic's Iceberg table instead: `lakefeed-analytics compact` creates it"
        )
    return f"CAST({quoted(name)} AS varchar) AS {quoted(name)}"
