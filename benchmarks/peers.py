"""Other sinks, measured if they are installed, configured by `connect.yaml` and `connect_batches.yaml`."""

from __future__ import annotations

import shutil
from pathlib import Path

# They share the same configuration format.
_PEERS = {"Redpanda Connect": ("redpanda-connect", "run"), "Bento": ("bento", "-c")}


def found(config: str = "connect.yaml") -> dict[str, tuple[str, ...]]:
    """The command of each installed peer with a configuration of this folder, by name."""
    path = str(Path(__file__).with_name(config))
    return {name: (*command, path) for name, command in _PEERS.items() if shutil.which(command[0])}
