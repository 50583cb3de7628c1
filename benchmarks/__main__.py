"""Runs all suites, or one: `make bench`, `make bench SUITE=sink`; `QUICK=1` shows that everything runs.

Writes `build/bench.json` and `build/bench.md`. Exit codes: 0 measured, regardless of the
figures; 1 a suite failed; 2 wrong usage, or a program is missing; 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from pathlib import Path

from benchmarks import report, suite
from benchmarks.figures import Result
from benchmarks.machine import Machine
from benchmarks.programs import missing
from tests.helpers.folders import own_folder

_BUILD = Path("build")


def main() -> int:
    """Read the arguments, measure, write."""
    suites = suite.find()
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--suite", choices=suites, help="run only this suite")
    parser.add_argument("--quick", action="store_true", help="small sizes: only shows that everything runs")
    given = parser.parse_args()
    chosen = {name: suites[name] for name in ([given.suite] if given.suite else suites)}
    needed = dict.fromkeys(program for one in chosen.values() for program in one.needs)
    if lacking := missing(needed):
        names = ", ".join(program.name for program in lacking)
        packages = " ".join(program.debian_package for program in lacking)
        print(f"error: there is no {names}. On Debian: apt-get install {packages}", file=sys.stderr)
        return 2
    # Also stops everything that was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return _measure(chosen, quick=given.quick)
    except KeyboardInterrupt:
        return 130


def _measure(chosen: dict[str, suite.Suite], *, quick: bool) -> int:
    machine = Machine.this()
    results: dict[str, tuple[str, Result]] = {}
    failed = False
    with own_folder(_BUILD / "bench"):
        bench = suite.Bench(_BUILD / "bench", quick, alone=len(chosen) == 1)
        for name, one in chosen.items():
            bench.say(f"{name}: {one.title}")
            try:
                results[name] = one.title, one.run(bench.of(name))
            except Exception:
                # The results of the other suites are still useful.
                traceback.print_exc()
                bench.say(f"{name} failed, see above")
                failed = True
        report.write(_BUILD, results, machine, quick=quick)
    for title, result in results.values():
        print(f"\n{title}\n{report.table(result)}")
    bench.say(f"{_BUILD}/bench.json and {_BUILD}/bench.md")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
