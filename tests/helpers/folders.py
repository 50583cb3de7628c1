"""A folder that one run has to itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lakefeed_local.files import locked


@contextmanager
def own_folder(path: Path) -> Iterator[None]:
    """Make a folder and all in it this run's alone: emptied now, and not by another run meanwhile.

    Raises:
        SystemExit: another run has it.
    """
    try:
        with locked(path.with_name(f"{path.name}.lock"), wait=False):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
            yield
    except BlockingIOError:
        raise SystemExit(f"error: another run uses {path}. Wait until it has ended") from None
