"""Writes generated files, or compares them with the committed ones."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

COMMAND = "make docs"


def stale(files: Mapping[Path, str]) -> list[Path]:
    """The files whose content differs from what would be generated."""
    return [
        path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def write_or_check(files: Mapping[Path, str], arguments: Sequence[str]) -> int:
    """Write the stale files; with `--check`, only list them and return 1 if there are any."""
    if list(arguments) not in ([], ["--check"]):
        print("usage: [--check]", file=sys.stderr)
        return 2
    old = stale(files)
    for path in old:
        if not arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
            print(f"written: {path}")
        else:
            print(f"stale: {path}; run `{COMMAND}`", file=sys.stderr)
    return 1 if old and arguments else 0
