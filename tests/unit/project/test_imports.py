"""Commands import what they need: help and usage errors nothing heavy, a dry run no client."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CLIENTS = {"aiokafka", "boto3", "botocore", "confluent_kafka", "faust", "obstore"}
HEAVY = CLIENTS | {
    *("duckdb", "fastapi", "numpy", "pandas", "prometheus_client", "pyarrow", "pyiceberg"),
    *("pydantic", "pydantic_settings", "rich", "uvicorn", "uvloop"),
}
# Runs a command as its script does, and prints its exit code and the packages that it has loaded.
PROGRAM = """
import contextlib, importlib, io, json, sys
module, sys.argv = sys.argv[1], sys.argv[1:]
output = io.TextIOWrapper(io.BytesIO())
with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
    code = importlib.import_module(module).main()
print(json.dumps([code, sorted({name.split(".")[0] for name in sys.modules})]))
"""


def loaded(part: str, *arguments: str) -> tuple[int, set[str]]:
    """Exit code of a command, and the packages that it imported."""
    command = [sys.executable, "-c", PROGRAM, f"lakefeed_{part}.cli", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    code, packages = json.loads(done.stdout)
    return code, set(packages)


@pytest.mark.parametrize(
    ("part", "arguments"),
    [
        ("producer", ("--help",)),
        ("producer", ("publish", "--help")),
        ("producer", ("watch", "--no-such-option")),
        ("consumer", ("--help",)),
        ("consumer", ("run", "--no-such-option")),
        ("consumer", ("dead-letters", "list", "--help")),
        ("analytics", ("--help",)),
        ("analytics", ("query", "--no-such-option")),
        ("analytics", ("crawl", "--help")),
        ("analytics", ("compact", "--help")),
        ("local", ("--help",)),
        ("local", ("demo", "--no-such-option")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_help_and_usage_errors_import_nothing_heavy(part: str, arguments: tuple[str, ...]) -> None:
    code, packages = loaded(part, *arguments)
    assert code == (2 if "--no-such-option" in arguments else 0)
    assert packages.isdisjoint(HEAVY)


def test_a_dry_run_imports_no_client() -> None:
    code, packages = loaded("producer", "publish", "data/prices.csv", "--dry-run")
    assert code == 0
    assert packages.isdisjoint(CLIENTS)
    assert "pyarrow" in packages, "the check sees what is imported"
