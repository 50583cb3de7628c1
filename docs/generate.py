"""Generates docs/configuration.md, docs/metrics.md and docs/decisions/README.md: `python -m docs.generate`.

Also generates the dashboards and Prometheus's files for Kubernetes. With `--check` it only lists stale files.
"""

from __future__ import annotations

import sys
from pathlib import Path

from docs import configuration, decision_index, metrics
from monitoring.generated import write_or_check
from monitoring.grafana import generate as grafana
from monitoring.prometheus import kubernetes

FOLDER = Path(__file__).resolve().parent


def files() -> dict[Path, str]:
    """The generated documents and their contents."""
    return {
        FOLDER / "configuration.md": configuration.document(),
        FOLDER / "metrics.md": metrics.document(),
        FOLDER / "decisions" / "README.md": decision_index.document(),
    }


if __name__ == "__main__":
    sys.exit(write_or_check({**files(), **grafana.files(), **kubernetes.files()}, sys.argv[1:]))
