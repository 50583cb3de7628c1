"""`make up` prints the addresses that the containers have, whatever ports `.env` gives."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DOCKER = """#!/bin/sh
[ "$2" = port ] || exit 0
case "$3 $4" in
    "grafana 3000") echo 127.0.0.1:3001;;
    "analytics 8003") echo 127.0.0.1:8103;;
    "kafka 9092") echo 127.0.0.1:9192;;
    *) exit 1;;
esac
"""


def test_up_prints_the_published_addresses_of_what_was_started(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"

    done = subprocess.run(
        ["make", "--no-print-directory", "up"],
        cwd=ROOT,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines() == [
        "Grafana     http://127.0.0.1:3001",
        "analytics   http://127.0.0.1:8103/docs",
        "Kafka       127.0.0.1:9192",
    ]
