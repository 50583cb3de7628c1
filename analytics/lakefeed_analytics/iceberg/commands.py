"""The commands `compact`, `rebuild` and `maintain`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import closing

from lakefeed_analytics.athena import AthenaQueries, wait_for_query
from lakefeed_analytics.iceberg import maintain as maintenance
from lakefeed_analytics.iceberg import rebuild as rebuilding
from lakefeed_analytics.iceberg.accept import Accept
from lakefeed_analytics.iceberg.chain import Range
from lakefeed_analytics.iceberg.compact import Done
from lakefeed_analytics.iceberg.group import committed_offsets
from lakefeed_analytics.iceberg.parts import connect
from lakefeed_analytics.iceberg.work import Run
from lakefeed_analytics.settings import CompactSettings
from lakefeed_common import aws
from lakefeed_common.text import message


def compact(
    settings: CompactSettings,
    *,
    dry_run: bool,
    run: Run | None = None,
    accept: frozenset[Accept] = frozenset(),
) -> None:
    """Compact each topic once, and print what was done or would be; `run` and `accept` as of `connect`."""
    _only_warnings()
    for topic in settings.topic_names:
        with connect(settings, topic, run=run, accept=accept) as parts:
            before = parts.compactor.watermarks()
            committed = committed_offsets(settings, topic)
            if dry_run:
                ranges = parts.compactor.planned(committed)
                _print_plan(parts.table.name, ranges)
                parts.compactor.check(ranges, committed, before)
                continue
            done = Done()
            try:
                parts.compactor.run(committed, _say(f"compacting {topic}"), done, before)
            finally:
                print(
                    f"table {parts.table.name}: {done.rows} rows in {done.files} files, {done.bytes} B, "
                    f"{done.commits} commits"
                    + (f"; {done.unfit} rows have values that do not fit their column" if done.unfit else "")
                )


def rebuild(
    settings: CompactSettings,
    *,
    dry_run: bool,
    run: Run | None = None,
    accept: frozenset[Accept] = frozenset(),
) -> None:
    """Rebuild each topic's table once, and print what changed or would; `run`, `accept` as of `connect`."""
    _only_warnings()
    for topic in settings.topic_names:
        with connect(settings, topic, run=run, accept=accept) as parts:
            say = _say(f"rebuilding {topic}")
            if dry_run:
                done = rebuilding.planned(parts.compactor)
            else:
                done = rebuilding.rebuild(parts.compactor, say)
        what = (
            f"{done.objects} objects would be read" if dry_run else f"{done.rows} rows in {done.files} files"
        )
        print(f"table {parts.table.name}: {what}, {len(done.changes)} columns change")
        for change in done.changes:
            print(f"  {message(str(change))}")


def maintain(settings: CompactSettings, *, dry_run: bool) -> None:
    """Maintain each topic's table once, and print what was done or would be."""
    _only_warnings()
    for topic in settings.topic_names:
        with connect(settings, topic) as parts:
            name = parts.table.name
            found = maintenance.orphans(parts.s3, settings, parts.table)
            size = sum(each.size for each in found.files)
            older = f"{len(found.files)} orphan files older than {settings.orphan_days:g} days, {size} B"
            if dry_run:
                for statement in maintenance.statements(settings.iceberg_table(topic)):
                    print(f"table {name}: would run {statement}")
                print(f"table {name}: would remove {older}")
                for each in found.files:
                    print(f"  s3://{found.bucket}/{message(each.key)} {each.size} B {each.modified:%Y-%m-%d}")
                continue
            maintenance.remove(parts.s3, settings, found)
            print(f"table {name}: removed {older}")
        _run_in_athena(settings, topic)


def _run_in_athena(settings: CompactSettings, topic: str) -> None:
    """Run Athena's own maintenance; fails where Athena does not know it, as in the local AWS."""
    table = settings.iceberg_table(topic)
    with closing(aws.client("athena", settings)) as athena:
        engine = AthenaQueries(athena, settings)
        for statement in maintenance.statements(table):
            say = _say(statement)
            status = wait_for_query(
                engine,
                engine.start(statement),
                settings.query_timeout_seconds,
                progress=lambda status, say=say: say(status.state.lower()),  # type: ignore[misc]
            )
            print(f"table {table}: {statement.split()[0]} took {status.seconds:.1f} s")


def _print_plan(table: str, ranges: list[Range]) -> None:
    added = [each for each in ranges if each.start < each.end.offset]
    print(f"table {table}:" + ("" if added else " nothing to add"))
    for each in added:
        objects, size = len(each.objects), sum(one.size for one in each.objects)
        print(
            f"  partition {each.partition}: offsets {each.start} to {each.end.offset - 1}, "
            f"{objects} objects, {size} B"
        )
        for hole in each.accepted:
            print(f"  accepted: {hole}")


def _say(doing: str) -> Callable[[str], None]:
    def say(news: str) -> None:
        print(f"{doing}: {news}", file=sys.stderr)

    return say


def _only_warnings() -> None:
    # The commands print this themselves.
    for name in ("lakefeed_analytics", "pyiceberg"):
        logging.getLogger(name).setLevel(logging.WARNING)
