"""Other sinks, measured too when their program is on the path; they take `benchmarks/connect.yaml`."""

from __future__ import annotations

import shutil
from pathlib import Path

_CONFIG = str(Path(__file__).with_name("connect.yaml"))
# Each of them knows the same configuration.
_PEERS = {"Redpanda Connect": ("redpanda-connect", "run", _CONFIG), "Bento": ("bento", "-c", _CONFIG)}


def found() -> dict[str, tuple[str, ...]]:
    """The command of each peer that is there, by name."""
    return {name: command for name, command in _PEERS.items() if shutil.which(command[0])}
