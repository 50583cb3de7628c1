"""Runs a broker, a secured broker or a local AWS for all test processes, until the last of them has ended.

A test process holds a shared lock on `users` while it runs, and the kernel releases it however the process
ends. The server process stops when it gets that lock exclusively.
`python -m tests.helpers.shared_servers NAME FOLDER`.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lakefeed_local.aws import LocalAws
from lakefeed_local.broker import Broker
from lakefeed_local.files import locked
from tests.helpers.boto import share_loader
from tests.helpers.brokers import PATIENT
from tests.helpers.secure_broker import secure_broker
from tests.helpers.waiting import wait_for

_ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def shared(name: str, folder: Path) -> Iterator[str]:
    """The address of the shared server `kafka`, `secured` or `aws`; the first to come starts it."""
    folder = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    address = folder / "address"
    with (folder / "users").open("ab") as users:
        # Waits while a server that lost its last user is stopping.
        fcntl.flock(users, fcntl.LOCK_SH)
        with locked(folder / "starting"):
            if not address.exists():
                _start(name, folder, address)
        yield address.read_text()


def _start(name: str, folder: Path, address: Path) -> None:
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.shared_servers", name, str(folder)],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    wait_for(
        lambda: address.exists() or server.poll() is not None,
        timeout=240,
        message=lambda: f"the shared {name} did not start:\n{(folder / 'server.log').read_text()}",
    )
    if not address.exists():
        raise RuntimeError(f"the shared {name} did not start:\n{(folder / 'server.log').read_text()}")
    # It ends after this process; no process waits for it.
    server.returncode = 0


def _serve(name: str, folder: Path) -> None:
    with (folder / "users").open("ab") as users, ExitStack() as running:
        if name == "kafka":
            broker = Broker(folder / "data", overrides=PATIENT, metrics_port=0)
            address = running.enter_context(broker).bootstrap_servers
            (folder / "metrics").write_text(f"http://127.0.0.1:{broker.metrics_port}/metrics")
        elif name == "secured":
            address = running.enter_context(secure_broker(folder / "data")).describe()
        else:
            address = running.enter_context(LocalAws(folder / "data")).endpoint_url
        staged = folder / "address.new"
        staged.write_text(address)
        staged.rename(folder / "address")
        while True:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.2)
        # A new user waits for the lock until this server has ended, then starts another one.
        (folder / "address").unlink()
        running.close()


if __name__ == "__main__":
    share_loader()
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    _serve(sys.argv[1], Path(sys.argv[2]))
