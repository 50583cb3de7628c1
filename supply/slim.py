"""Removes from an environment what no program needs at run time: `python slim.py FOLDER [SERVICE …]`.

Runs in the build stage of the images and needs the standard library only. Packages bring their tests, and
headers and sources for compilers. pyarrow brings clients of Flight, which nothing here imports, and of S3,
for PyIceberg alone; botocore describes 400 services of AWS, of which the named ones are kept.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

# Files that only compilers read.
_SOURCES = {".a", ".c", ".cc", ".cpp", ".h", ".hpp", ".pxd", ".pxi", ".pyx"}
# Of pyarrow: `include` and `src` are for compilers; the rest only serves imports of their own names.
_PYARROW = (
    "include",
    "src",
    "*_flight*",
    # The wheel has each library under three names; programs are linked to the one with the main version.
    "libarrow_python*.so",
    "libarrow_python*.so.*.*.*",
)
_PYARROW_S3 = ("libarrow_s3.so*", "_s3fs*.so")
# Credentials of AWS come by these, whatever a program asks of AWS.
_CREDENTIALS = {"signin", "sso", "sso-oidc", "sts"}


def unneeded(packages: Path, services: set[str]) -> Iterator[Path]:
    """What can be removed of a folder of packages, a folder before what is in it.

    Args:
        packages: the folder `site-packages`.
        services: those of AWS that are called, by botocore's names.
    """
    for path in sorted(packages.rglob("*")):
        if path.suffix in _SOURCES or (path.name == "tests" and path.parent != packages):
            yield path
    for pattern in _PYARROW if (packages / "pyiceberg").exists() else _PYARROW + _PYARROW_S3:
        yield from (packages / "pyarrow").glob(pattern)
    for folder in (packages / "botocore" / "data").glob("*/"):
        if folder.name not in _CREDENTIALS | services:
            yield folder


def remove(path: Path) -> int:
    """Remove a file or a folder; returns how many bytes it had."""
    if not path.exists():
        return 0
    if path.is_dir():
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        shutil.rmtree(path)
        return size
    size = path.stat().st_size
    path.unlink()
    return size


def main() -> int:
    """Remove it; returns the exit code."""
    environment, *services = sys.argv[1:]
    found = sorted(Path(environment).glob("lib/python*/site-packages"))
    if len(found) != 1:
        print(f"{environment} is not a virtual environment", file=sys.stderr)
        return 2
    removed = sum(remove(path) for path in unneeded(found[0], set(services)))
    print(f"{environment}: {removed / 1e6:.0f} MB removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
