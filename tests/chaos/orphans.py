"""Removes the orphan files of a run's table, as `maintain` does when they are old enough; prints how many.

It reads the settings of the compactor. Athena's own maintenance is left out: the local Athena has none.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lakefeed_analytics.iceberg.maintain import orphans, remove
from lakefeed_analytics.iceberg.parts import connect
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common.settings import load


def main() -> int:
    """Remove them; returns how many."""
    settings = load(CompactSettings)
    later = datetime.now(UTC) + timedelta(days=settings.orphan_days + 1)
    with connect(settings, settings.topic) as parts:
        found = orphans(parts.s3, settings, parts.table, later)
        remove(parts.s3, settings, found)
    return len(found.files)


if __name__ == "__main__":
    print(main())
