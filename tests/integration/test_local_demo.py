"""`lakefeed-local demo` as `make demo` runs it: what it shows, what it writes, and that it leaves nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.waiting import wait_for

# In the background, tests may run with Ctrl-C ignored, which children inherit; programs on a terminal do not.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from lakefeed_local.cli import main
sys.exit(main())
"""
COMMAND = [sys.executable, "-c", PROGRAM, "demo"]
# The same with a broker that is running; everything else is started by the demo.
WITHOUT_KAFKA = """
import os
from contextlib import contextmanager
from types import SimpleNamespace
from lakefeed_local import broker as broker_module, demo

@contextmanager
def broker(*_, **__):
    yield SimpleNamespace(running=True, bootstrap_servers=os.environ["KAFKA"])

broker_module.Broker = demo.Broker = broker
"""
CSV = "ticker,date,close\nAAPL,2013-02-28,441.40\nAAPL,2013-03-01,430.47\nIBM,2013-03-01,202.91\nIBM,x,y,z\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose name needs quoting, with the CSV in it."""
    made = tmp_path / "a folder, ünïq"
    made.mkdir()
    (made / "some prices.csv").write_text(CSV)
    return made


@contextmanager
def demo(
    folder: Path, *options: str, kafka: str | None = None, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    files = ["--data", "some prices.csv", "--report", "build/demo.json"]
    command = COMMAND
    if kafka is not None:
        command = [sys.executable, "-c", WITHOUT_KAFKA + PROGRAM, "demo"]
        variables["KAFKA"] = kafka
    with subprocess.Popen(
        [*command, *files, *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process: subprocess.Popen[str], step: str) -> str:
    """Wait for a line of its progress; returns everything up to it."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if step in line:
            return "".join(said)
    raise AssertionError("".join(said))


def left(folder: Path) -> list[str]:
    """The processes whose command line or environment contains the folder."""
    found = subprocess.run(["ps", "axewwo", "args="], capture_output=True, text=True, check=True)
    return [line for line in found.stdout.splitlines() if str(folder) in line]


def test_each_step_is_shown_and_counted_and_keep_runs_until_ctrl_c(folder: Path) -> None:
    (folder / "some prices.csv").write_text(CSV.replace(",", ";"))
    # The caller's settings of the file apply, and those of addresses do not.
    settings = {
        "LAKEFEED_DELIMITER": ";",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "LAKEFEED_BUCKET": "someone-elses",
    }
    options = ["--topic", "My.Prices", "--named-query", "latest_price", "--layout", "batches", "--keep"]
    with demo(folder, *options, **settings) as process:
        said = until(process, "Ready. Stop with Ctrl-C")
        kept = left(folder)
        # A terminal sends it to the whole group.
        os.killpg(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    for program in ("kafka.Kafka", "QuorumPeerMain", "ministack/launcher.py"):
        assert any(program in line for line in kept), kept
    assert re.search(r"^consumer metrics=http://127\.0\.0\.1:\d+/metrics$", out, re.MULTILINE)
    counts = json.loads((folder / "build" / "demo.json").read_text())
    assert counts.pop("seconds") > 0
    assert counts == {
        "layout": "batches",
        "rows_read": 4,
        "rows_rejected": 1,
        "events_delivered": 3,
        "objects_stored": 1,
        "events_stored": 3,
        "dead_letters": 0,
        "rows_queried": 3,
        "table": "batches_my_prices",
        "iceberg_rows": 3,
        "iceberg_table": "my_prices_iceberg",
    }
    assert "430.47" in out
    assert "named query latest_price, latest price of each company" in said
    assert 'from "my_prices_iceberg"' in said
    assert "3 of 3 events stored" in said
    assert sorted(path.name for path in (folder / "build").iterdir()) == ["demo-rejects.jsonl", "demo.json"]
    assert left(folder) == []


def interrupted(process: subprocess.Popen[str], folder: Path) -> None:
    """Press Ctrl-C, after which no process is left."""
    # A terminal sends it to the whole group.
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert left(folder) == []
    assert not list((folder / "build").glob("demo-*/"))


def test_ctrl_c_ends_a_start(folder: Path) -> None:
    with demo(folder) as process:
        until(process, "Starting ZooKeeper")
        interrupted(process, folder)


def test_ctrl_c_ends_all_that_was_started(folder: Path, kafka: str, topic: str) -> None:
    with demo(folder, "--topic", topic, kafka=kafka) as process:
        until(process, "Publishing")
        interrupted(process, folder)


def test_no_process_outlives_a_killed_demo(folder: Path, kafka: str, topic: str) -> None:
    with demo(folder, "--topic", topic, kafka=kafka) as process:
        until(process, "Storing each event")
        process.kill()
        process.wait(timeout=60)
        wait_for(lambda: not left(folder), 60, lambda: "\n".join(left(folder)))


def test_a_closed_standard_output_is_not_an_error() -> None:
    words = f"{COMMAND[0]} -c 'import sys; from lakefeed_local.cli import main; sys.exit(main())' --help"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{words} | true"], capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
