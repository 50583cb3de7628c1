"""Generates the dashboards' JSON: `python -m monitoring.grafana.generate`; `--check` only compares."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from monitoring.generated import write_or_check
from monitoring.grafana import pipeline

FOLDER = Path(__file__).resolve().parent / "dashboards"
DASHBOARDS: dict[str, Callable[[], dict[str, Any]]] = {"lakefeed-pipeline.json": pipeline.build}


def files() -> dict[Path, str]:
    """The dashboard files and their contents."""
    return {
        FOLDER / name: json.dumps(build(), indent=2, ensure_ascii=False) + "\n"
        for name, build in DASHBOARDS.items()
    }


if __name__ == "__main__":
    sys.exit(write_or_check(files(), sys.argv[1:]))
