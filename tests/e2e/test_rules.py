"""Prometheus's own tool over the configuration, the rules and their tests, in the image that is used."""

from __future__ import annotations

import subprocess

import pytest
import yaml

from monitoring.catalogue import ROOT

FOLDER = ROOT / "monitoring" / "prometheus"
IMAGE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["prometheus"]["image"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "--lint=all", "--lint-fatal", "prometheus.yml"),
        ("check", "rules", "--lint=all", "--lint-fatal", "rules/lakefeed.yml"),
        ("test", "rules", "tests/lakefeed.yml"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_promtool(arguments: tuple[str, ...]) -> None:
    docker = ["docker", "run", "--rm", "--network", "none", "--volume", f"{FOLDER}:/etc/prometheus:ro"]
    tool = ["--workdir", "/etc/prometheus", "--entrypoint", "/bin/promtool", IMAGE]
    done = subprocess.run([*docker, *tool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
