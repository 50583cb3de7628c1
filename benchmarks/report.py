"""Writes the results: `build/bench.json` for programs, `build/bench.md` for docs/performance.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Result
from benchmarks.machine import Machine

_QUICK = "**A quick run: it shows that everything runs. Its figures are meaningless.**"


def write(folder: Path, results: Mapping[str, tuple[str, Result]], machine: Machine, *, quick: bool) -> None:
    """Write both files; `results` maps a suite's name to its title and result."""
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"quick": quick, "machine": machine.facts()}
    content |= {name: suite_json(result) for name, (_, result) in results.items()}
    (folder / "bench.json").write_text(json.dumps(content, indent=2) + "\n")
    parts = [_QUICK] if quick else []
    parts.append(machine.sentence())
    reach = [figure for _, result in results.values() for figure in result.figures if figure.target]
    if reach:
        parts.append(f"### Targets\n\n{table(Result(reach))}")
    for name, (title, result) in results.items():
        parts.append(f"### {title}\n\n`make bench SUITE={name}`")
        parts.append(table(result))
        parts += [f"- {note}" for note in result.notes]
    (folder / "bench.md").write_text("\n\n".join(parts) + "\n")


def suite_json(result: Result) -> dict[str, Any]:
    """Medians by key, and the values of all rounds, targets and notes."""
    content: dict[str, Any] = {figure.key: _rounded(figure.median) for figure in result.figures}
    content["rounds"] = {figure.key: [_rounded(one) for one in figure.values] for figure in result.figures}
    content["targets"] = {
        figure.key: {figure.target.kind: figure.target.bound, "met": figure.met}
        for figure in result.figures
        if figure.target is not None
    }
    content["notes"] = list(result.notes)
    content["notes"] += [f"{figure.key}: {figure.note}" for figure in result.figures if figure.note]
    return content


def table(result: Result) -> str:
    """A Markdown table with one row per figure."""
    lines = ["| what | median | min to max | target | met |", "|---|---:|---:|---:|---|"]
    lines += [_row(figure) for figure in result.figures]
    return "\n".join(lines)


def _row(figure: Figure) -> str:
    unit = f" {figure.unit}" if figure.unit else ""
    what = figure.what + (f" ({figure.note})" if figure.note else "")
    median, spread = "not measured", ""
    if figure.median is not None:
        median = f"{_shown(figure.median)}{unit}"
        spread = f"{_shown(min(figure.values))} to {_shown(max(figure.values))}"
    target = "" if figure.target is None else str(figure.target)
    met = {None: "open" if target else "", True: "yes", False: "**no**"}[figure.met]
    return f"| {what} | {median} | {spread} | {target} | {met} |"


def _rounded(value: float | None) -> float | None:
    """Round to four significant digits."""
    return None if value is None else float(f"{value:.4g}")


def _shown(value: float) -> str:
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:g}"
