"""Measures rows/s from CSV to Kafka, compared with kcat on prepared lines and with tutorial code.

Ours and kcat are whole commands, from start to end, with acks=all and idempotence. The tutorial code gets
fewer rows, so its startup would dominate and is excluded. Each time, the topic is checked to contain every
row.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.figures import Figure, Result, Target, ratio
from benchmarks.programs import KCAT
from benchmarks.rows import write_json_lines, write_prices
from benchmarks.suite import Bench, Suite
from benchmarks.topics import held, topic
from benchmarks.workers import without_aws

_ROUNDS = 3
_LAKEFEED, _KCAT, _TUTORIAL = "lakefeed-producer publish", "kcat -P on JSON lines", "tutorial code"
_KEYS = {_LAKEFEED: "lakefeed", _KCAT: "kcat", _TUTORIAL: "tutorial"}


@dataclass(frozen=True)
class Published:
    """One command: rows, the seconds they took, CPU seconds of the whole command."""

    rows: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.rows / self.seconds


def run(bench: Bench) -> Result:
    """Measure the producer."""
    rows, few = bench.size((1_000_000, 2_000), (20_000, 200))
    bench.folder.mkdir(parents=True, exist_ok=True)
    files = {name: bench.folder / name for name in ("prices.csv", "prices.jsonl", "few.csv")}
    write_prices(files["prices.csv"], rows)
    write_json_lines(files["prices.csv"], files["prices.jsonl"])
    write_prices(files["few.csv"], few)
    with bench.broker() as running:
        broker = running.bootstrap_servers
        lakefeed = (
            *(str(Path(sys.executable).with_name("lakefeed-producer")), "publish"),
            *("--kafka-bootstrap-servers", broker, "--rejects", str(bench.folder / "rejects.jsonl")),
            *(str(files["prices.csv"]), "--topic"),
        )
        # Compressed as the producer does by default.
        settings = ("acks=all", "enable.idempotence=true", "compression.type=lz4")
        kcat = (
            *("kcat", "-P", "-b", broker, "-l", *(part for one in settings for part in ("-X", one))),
            *(str(files["prices.jsonl"]), "-t"),
        )
        log = bench.folder / "commands.log"
        found = bench.rounds(
            _ROUNDS,
            {
                _LAKEFEED: partial(_command, broker, log, lakefeed, rows),
                _KCAT: partial(_command, broker, log, kcat, rows),
                _TUTORIAL: partial(_tutorial, broker, log, files["few.csv"], few),
            },
        )
    return Result(_figures(found), (f"A CSV file of {rows:,} rows; the tutorial code gets {few:,}.",))


def _tutorial(broker: str, log: Path, file: Path, rows: int) -> Published:
    """Run the tutorial code, which reports the time of its work without its startup."""
    command = (sys.executable, "-m", "benchmarks.tutorial.publish", str(file), broker)
    whole, output = _publish(broker, log, command, rows)
    seconds, cpu_seconds = map(float, output.split())
    return replace(whole, seconds=seconds, cpu_seconds=cpu_seconds)


def _command(broker: str, log: Path, command: Sequence[str], rows: int) -> Published:
    return _publish(broker, log, command, rows)[0]


def _publish(broker: str, log: Path, command: Sequence[str], rows: int) -> tuple[Published, bytes]:
    """Run a command that publishes rows to the topic in its last argument.

    Returns its times, and its output.
    """
    variables = without_aws()
    # Modules are compiled once, as in the image, not at each start.
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    with topic(broker, "rows", 1) as name, log.open("ab") as errors:
        before = _children_cpu()
        began = time.monotonic()
        output = subprocess.run(
            [*command, name],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            check=True,
        ).stdout
        seconds = time.monotonic() - began
        cpu = _children_cpu() - before
        there = held(broker, name)
    if there != rows:
        raise RuntimeError(f"{command[0]} published {there} of {rows} rows; see {log}")
    return Published(rows, seconds, cpu), output


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _figures(found: dict[str, list[Published]]) -> list[Figure]:
    rates = {case: [published.rate for published in rounds] for case, rounds in found.items()}
    figures = [
        ratio(
            "ratio_to_kcat",
            f"{_LAKEFEED} ÷ {_KCAT}",
            rates[_LAKEFEED],
            rates[_KCAT],
            Target("at least", 0.5),
        ),
        ratio(
            "ratio_to_tutorial",
            f"{_LAKEFEED} ÷ {_TUTORIAL}",
            rates[_LAKEFEED],
            rates[_TUTORIAL],
            Target("at least", 100),
        ),
    ]
    for case, rounds in found.items():
        key = _KEYS[case]
        figures.append(Figure(f"{key}_rate", f"rows/s, {case}", tuple(rates[case]), "/s"))
        cpu = tuple(one.cpu_seconds / one.rows * 1e6 for one in rounds)
        figures.append(Figure(f"{key}_cpu_us", f"CPU per row, {case}", cpu, "µs"))
    return figures


SUITE = Suite("Producer: from a CSV to Kafka", run, needs=(KCAT,))
