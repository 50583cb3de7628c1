"""Other sinks, measured if they are installed, configured by `benchmarks/connect.yaml`."""

from __future__ import annotations

import shutil
from pathlib import Path

_CONFIG = str(Path(__file__).with_name("connect.yaml"))
# They share the same configuration format.
_PEERS = {"Redpanda Connect": ("redpanda-connect", "run", _CONFIG), "Bento": ("bento", "-c", _CONFIG)}


def found() -> dict[str, tuple[str, ...]]:
    """The command of each installed peer, by name."""
    return {name: command for name, command in _PEERS.items() if shutil.which(command[0])}
