"""Suites and their context. Each module in `benchmarks/suites` is a suite."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from benchmarks import suites
from benchmarks.figures import Result
from benchmarks.programs import Program
from lakefeed_local.broker import Broker
from lakefeed_local.settings import LocalSettings
from tests.helpers.brokers import PATIENT

T = TypeVar("T")


@dataclass(frozen=True)
class Bench:
    """One run of the benchmarks.

    Attributes:
        folder: for data and logs of the suite.
        quick: sizes that only show that everything runs.
        alone: only one suite was requested, so it may take longer.
    """

    folder: Path
    quick: bool
    alone: bool
    began: float = field(default_factory=time.monotonic)

    def of(self, suite: str) -> Bench:
        """The same run, with a folder for one suite."""
        return replace(self, folder=self.folder / suite)

    def say(self, step: str) -> None:
        """Print progress."""
        print(f"[{time.monotonic() - self.began:6.0f} s] {step}", file=sys.stderr, flush=True)

    def broker(self) -> Broker:
        """A Kafka and ZooKeeper for the suite, not yet started."""
        settings = LocalSettings(local_jvm="throughput")
        return Broker(self.folder / "broker", overrides=PATIENT, settings=settings)

    def size(self, full: T, quick: T) -> T:
        """A size of the full run, or the one of a quick run."""
        return quick if self.quick else full

    def rounds(self, count: int, cases: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
        """Measure all cases in turns, `count` times (once if quick), in reverse order every second time.

        A temporary slowdown of the machine therefore affects all of them.
        """
        found: dict[str, list[T]] = {name: [] for name in cases}
        for number in range(self.size(count, 1)):
            names = list(cases) if number % 2 == 0 else list(cases)[::-1]
            for name in names:
                began = time.monotonic()
                found[name].append(cases[name]())
                self.say(f"round {number + 1}: {name}, {time.monotonic() - began:.1f} s: {found[name][-1]}")
        return found


@dataclass(frozen=True)
class Suite:
    """One part of the benchmarks.

    Attributes:
        title: heading of its table.
        run: measures.
        needs: programs in addition to `make setup`.
    """

    title: str
    run: Callable[[Bench], Result]
    needs: tuple[Program, ...] = ()


def find() -> dict[str, Suite]:
    """All suites by name."""
    modules = [
        importlib.import_module(f"{suites.__name__}.{found.name}")
        for found in pkgutil.iter_modules(suites.__path__)
    ]
    return {module.__name__.rpartition(".")[2]: module.SUITE for module in modules}
