"""`python -m tests.chaos`: runs the chaos suite and says whether every event is stored exactly once."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import random
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.chaos.run import CONSUMERS, LAYOUTS, Outcome, Run, Variant, named
from tests.chaos.schedule import COMMIT_FAULTS, TABLE_FAULTS, Plan, Size, plan, size_of
from tests.helpers.cluster import MODES
from tests.helpers.s3_proxy import KINDS

_WRONG = ("lost", "duplicated", "altered", "misordered", "uncommitted", "reread_committed")
_WRONG_TABLE = ("table_lost", "table_doubled", "table_altered")
_BROKER_KILLS = ("broker_kill", "leader_kill", "coordinator_kill", "controller_kill")
_KILLS = ("kill", "producer_kill", "compactor_kill", *_BROKER_KILLS)
_BROKER = (*_BROKER_KILLS, "broker_restart", "zookeeper_restart")


def main() -> int:
    """Run the suite; returns 0 if the promise was kept and everything planned has happened."""
    options = _options()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    # The next run must not delete what explains a failure.
    options.folder = options.folder or Path("build", "chaos", f"{time.strftime('%Y%m%d-%H%M%S')}-seed-{seed}")
    again = f"make chaos SEED={seed}{' QUICK=1' if options.quick else ''}"
    again += f" CLUSTER={options.cluster}" if options.cluster else ""
    again += "" if options.layout == "objects" else f" LAYOUT={options.layout}"
    again += " COMPACT=1" if options.compact else ""
    again += "" if options.consumer == "lakefeed" else f" CONSUMER={options.consumer}"
    # Ended from outside, it still ends what it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    modes = {None: (None,), "1": MODES}.get(options.cluster, (options.cluster,))
    reports = {}
    try:
        for mode in modes:
            reports[mode] = _run(options, seed, mode, again)
    except KeyboardInterrupt:
        print("interrupted; what was started has ended")
        return 130
    except Exception:
        _print_how_to_continue(options.folder, again)
        raise
    report = merged(list(reports.values()))
    if options.cluster:
        report["clusters"] = reports
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(json.dumps(report, indent=2) + "\n")
    if not report["missing"] and not any(report[kind] for kind in (*_WRONG, *_WRONG_TABLE)):
        shutil.rmtree(options.folder)
        return 0
    _print_how_to_continue(options.folder, again)
    return 1


def _run(options: argparse.Namespace, seed: int, mode: str | None, again: str) -> dict[str, Any]:
    """One run, with one broker or a cluster in a mode; returns its report."""
    variant = Variant(options.consumer, options.layout, options.compact, mode)
    size = size_of(quick=options.quick, cluster=mode, compact=options.compact)
    size = dataclasses.replace(size, **dict.fromkeys(options.without, 0))
    print(
        f"{f'three brokers, {mode}: ' if mode else ''}{size.events:,} events, layout {variant.layout}"
        f"{', compacted' if variant.compact else ''}, "
        f"{size.kills} kills of consumers, seed {seed}. To repeat: {again}",
        flush=True,
    )
    steps = plan(seed, size)
    folder = options.folder / mode if mode else options.folder
    with Run(seed, size, steps, variant, folder) as run:
        outcome = asyncio.run(run.go())
    short = _what_is_missing(outcome, steps, size)
    report = _report(outcome, seed, size, variant) | {"missing": short}
    _print(report, outcome, short)
    return report


def merged(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One report of several runs with a seed: counts and seconds are added up."""
    first, *others = reports
    if not others:
        return dict(first)
    whole: dict[str, Any] = {}
    for name in dict.fromkeys(name for report in reports for name in report):
        values = [report[name] for report in reports if name in report]
        if isinstance(values[0], dict):
            whole[name] = merged(values)
        elif values[0] is None:
            whole[name] = None
        elif name == "seed" or isinstance(values[0], str | bool):
            whole[name] = values[0]
        else:
            whole[name] = sum(values, type(values[0])())
    return whole


def _print_how_to_continue(folder: Path, again: str) -> None:
    print(f"the logs and data of the run are in {folder}; the order of events is in steps.log")
    print(f"to run it again: {again}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="repeats a run; a random one by default")
    parser.add_argument("--quick", action="store_true", help="the size that CI runs, under 5 minutes")
    parser.add_argument(
        "--cluster",
        choices=("1", *MODES),
        help="three brokers, with ZooKeeper or in KRaft mode; 1 is a run with each",
    )
    parser.add_argument("--layout", choices=LAYOUTS, default="objects", help="how events are stored")
    parser.add_argument(
        "--compact", action="store_true", help="compact the events into an Iceberg table meanwhile"
    )
    parser.add_argument("--consumer", choices=CONSUMERS, default="lakefeed", help=argparse.SUPPRESS)
    counts = [field.name for field in dataclasses.fields(Size)]
    parser.add_argument("--without", choices=counts, action="append", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="data and logs; a failed run leaves them")
    parser.add_argument("--report", type=Path, default=Path("build/chaos.json"))
    options = parser.parse_args()
    if options.consumer != "lakefeed" and (options.layout != "objects" or options.compact):
        parser.error(
            f"--consumer {options.consumer} stores one object per event, without what compaction needs"
        )
    return options


def _what_is_missing(outcome: Outcome, steps: Plan, size: Size) -> list[str]:
    """What was planned and has not happened."""
    planned = sum(map(len, steps.values()))
    missing = []
    if outcome.done.total() < planned:
        missing.append(f"{outcome.done.total()} of {planned} steps")
    if outcome.rebalances < size.rebalances:
        missing.append(f"{outcome.rebalances} of {size.rebalances} rebalances")
    if size.fault_rounds:
        missing += [f"no {kind}" for kind in KINDS if kind != "outage" and not outcome.requests[kind]]
    if size.compaction_rounds and outcome.compacted is not None:
        faults = (*COMMIT_FAULTS, *TABLE_FAULTS)
        missing += [f"no {what}" for what in faults if not outcome.compacted.requests[what]]
    return missing


def _report(outcome: Outcome, seed: int, size: Size, variant: Variant) -> dict[str, Any]:
    verdict, done = outcome.verdict, outcome.done
    batches = variant.layout == "batches"
    faults = {kind: done[kind] for kind in (*KINDS, *_BROKER) if done[kind]}
    return {
        "seed": seed,
        "consumer": variant.consumer,
        "layout": variant.layout,
        "compact": variant.compact,
        "events": size.events,
        "kills": sum(done[kind] for kind in _KILLS),
        "rebalances": outcome.rebalances,
        "outages": sum(faults.values()),
        "reread": outcome.reread,
        **{kind: verdict.wrong[kind] for kind in _WRONG},
        "planned_rows": size.events + size.broken_records,
        "rows": verdict.rows,
        "records": verdict.records,
        "objects": 0 if batches else verdict.stored,
        "batches": verdict.batches,
        "batched": verdict.stored if batches else 0,
        "adopted": outcome.adopted,
        "dead_letters": verdict.dead_letters,
        **_report_table(outcome),
        "kills_by_kind": {kind: done[kind] for kind in _KILLS},
        "stops": done["stop"],
        "leaves": done["leave"],
        "joins": done["join"],
        "outages_by_kind": faults,
        "requests_by_fault": dict(sorted(outcome.requests.items())),
        "ends": outcome.ends,
        "slow_stops": outcome.slow_stops,
        "seconds": outcome.seconds,
    }


def _report_table(outcome: Outcome) -> dict[str, Any]:
    """What a compaction came to; None without one."""
    compacted, verdict = outcome.compacted, outcome.verdict
    if compacted is None:
        return dict.fromkeys(("table_rows", *_WRONG_TABLE, "compaction"))
    return {
        "table_rows": verdict.table_rows,
        **{kind: verdict.wrong[kind] for kind in _WRONG_TABLE},
        "compaction": {
            "stops": outcome.done["compactor_stop"],
            "requests_by_fault": dict(sorted(compacted.requests.items())),
            "orphans": compacted.orphans,
            "ends": named(compacted.ends),
            "slow_stops": compacted.slow_stops,
        },
    }


def _print(report: dict[str, Any], outcome: Outcome, short: list[str]) -> None:
    stored = f"{report['objects']:,} objects"
    if report["layout"] == "batches":
        stored = (
            f"{report['batched']:,} events in {report['batches']:,} batches ({report['adopted']} adopted)"
        )
    table = f", {report['table_rows']:,} rows in the table" if report["compact"] else ""
    print(
        f"{report['rows']:,} of {report['planned_rows']:,} rows and broken records, {report['records']:,} "
        f"records in Kafka, {stored} and {report['dead_letters']} dead letters{table}"
    )
    print(
        f"{report['kills']} kills, {report['rebalances']} rebalances, {report['outages']} outages, "
        f"{sum(report['seconds'].values()):.0f} s"
    )
    for example in outcome.verdict.examples:
        print(f"  {example}")
    for what in short:
        print(f"  not reached: {what}")
    wrong = (*_WRONG, *(_WRONG_TABLE if report["compact"] else ()), "reread")
    print(", ".join(f"{kind} {report[kind]}" for kind in wrong), flush=True)


if __name__ == "__main__":
    sys.exit(main())
