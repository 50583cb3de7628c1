"""The commands `compact`, `rebuild` and `maintain`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from lakefeed_analytics.iceberg.chain import Range
from lakefeed_analytics.iceberg.compact import Done
from lakefeed_analytics.iceberg.group import committed_offsets
from lakefeed_analytics.iceberg.parts import connect
from lakefeed_analytics.settings import CompactSettings


def compact(settings: CompactSettings, *, dry_run: bool) -> None:
    """Compact each topic once, and print what was done or would be."""
    _only_warnings()
    for topic in settings.topic_names:
        committed = committed_offsets(settings, topic)
        with connect(settings, topic) as parts:
            if dry_run:
                _print_plan(parts.table.name, parts.compactor.planned(committed))
                continue
            done = Done()
            try:
                parts.compactor.run(committed, _say(f"compacting {topic}"), done)
            finally:
                print(
                    f"table {parts.table.name}: {done.rows} rows in {done.files} files, {done.bytes} B, "
                    f"{done.commits} commits"
                    + (f"; {done.unfit} rows have values that do not fit their column" if done.unfit else "")
                )


def _print_plan(table: str, ranges: list[Range]) -> None:
    print(f"table {table}:" + ("" if ranges else " nothing to add"))
    for each in ranges:
        objects, size = len(each.objects), sum(one.size for one in each.objects)
        print(
            f"  partition {each.partition}: offsets {each.start} to {each.end.offset - 1}, "
            f"{objects} objects, {size} B"
        )
        if each.hole:
            print(f"  partition {each.partition}: {each.hole}")


def _say(doing: str) -> Callable[[str], None]:
    def say(news: str) -> None:
        print(f"{doing}: {news}", file=sys.stderr)

    return say


def _only_warnings() -> None:
    # The commands print this themselves.
    for name in ("lakefeed_analytics", "pyiceberg"):
        logging.getLogger(name).setLevel(logging.WARNING)
