"""Programs that we start end with us, and say what went wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lakefeed_common.errors import SettingsError
from lakefeed_local.process import Child, StartError, sole_user
from tests.helpers.waiting import wait_for

FOREVER = [sys.executable, "-c", "import time\nprint('up', flush=True)\nwhile True: time.sleep(9)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time\nsignal.signal(15, signal.SIG_IGN)\n" + FOREVER[2],
]


def pid_of(child: Child) -> int:
    """The program's own process, under its guard."""
    guard = child._guard.pid
    return int(Path(f"/proc/{guard}/task/{guard}/children").read_text().split()[0])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def up(child: Child) -> None:
    child.wait_until(lambda: "up" in child.log(), 20)


@pytest.mark.parametrize("program", [FOREVER, DEAF])
def test_stop_ends_the_program(tmp_path: Path, program: list[str]) -> None:
    child = Child("it", program, tmp_path / "log", grace_seconds=0.5)
    up(child)
    pid = pid_of(child)

    child.stop()

    assert not alive(pid)
    assert not child.running


def test_kill_ends_the_program_at_once(tmp_path: Path) -> None:
    child = Child("it", DEAF, tmp_path / "log", grace_seconds=60)
    up(child)
    pid = pid_of(child)

    began = time.monotonic()

    child.kill()

    assert not alive(pid)
    assert time.monotonic() - began < 30, "it was asked to stop, and waited for"


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_a_program_dies_with_its_guard(tmp_path: Path) -> None:
    child = Child("it", DEAF, tmp_path / "log")
    up(child)
    pid = pid_of(child)

    os.kill(child._guard.pid, signal.SIGKILL)

    wait_for(lambda: not alive(pid), 10, "the program outlives its guard")
    child.stop()


def test_a_program_ends_when_its_parent_is_killed_from_another_thread(tmp_path: Path) -> None:
    """The kernel's own parent-death signal follows the thread; a program must outlive that one."""
    code = f"""
import threading, time
from pathlib import Path
from lakefeed_local.process import Child
def start():
    child = Child("it", {FOREVER!r}, Path({str(tmp_path / "log")!r}))
    child.wait_until(lambda: "up" in child.log(), 20)
    guard = child._guard.pid
    print(Path(f"/proc/{{guard}}/task/{{guard}}/children").read_text(), flush=True)
    keep.append(child)
keep = []
thread = threading.Thread(target=start)
thread.start()
thread.join()
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert alive(pid), "the program ended with the thread that started it"

        starter.kill()

        wait_for(lambda: not alive(pid), 20, "the program outlives who started it")


def test_a_program_that_ends_shows_its_log(tmp_path: Path) -> None:
    child = Child("it", [sys.executable, "-c", "raise SystemExit('no such luck')"], tmp_path / "log")

    with pytest.raises(StartError, match=r"it ended while starting(?s:.*)no such luck"):
        child.wait_until(lambda: False, 20)


def test_a_program_that_never_gets_ready_is_stopped(tmp_path: Path) -> None:
    child = Child("it", FOREVER, tmp_path / "log")

    with pytest.raises(StartError, match="is not ready after 0 s"):
        child.wait_until(lambda: False, 0.2)

    assert not child.running


def test_a_folder_is_locked_for_one_run_at_a_time(tmp_path: Path) -> None:
    with (
        sole_user(tmp_path),
        pytest.raises(SettingsError, match="LAKEFEED_LOCAL_FOLDER"),
        sole_user(tmp_path),
    ):
        pass
    with sole_user(tmp_path):
        pass
