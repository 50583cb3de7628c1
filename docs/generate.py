"""Writes docs/configuration.md and docs/metrics.md from the services' classes: `python -m docs.generate`.

With `--check` it only says which are stale. The dashboards' JSON and Prometheus's files for
Kubernetes are generated along with them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from docs import configuration, metrics
from monitoring.generated import write_or_check
from monitoring.grafana import generate as grafana
from monitoring.prometheus import generate as prometheus

FOLDER = Path(__file__).resolve().parent


def files() -> dict[Path, str]:
    """Every generated document with its text."""
    return {
        FOLDER / "configuration.md": configuration.document(),
        FOLDER / "metrics.md": metrics.document(),
    }


if __name__ == "__main__":
    sys.exit(write_or_check({**files(), **grafana.files(), **prometheus.files()}, sys.argv[1:]))
