"""Reads the hashed lock files."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
MINISTACK = ROOT / "local" / "lakefeed_local" / "ministack.requirements.lock"
JARS = ROOT / "local" / "lakefeed_local" / "jgo.lock.toml"
# Differences between the images' Python and the one that runs this.
IMAGE_PYTHON = {
    "python_version": "3.13",
    "python_full_version": "3.13.0",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "os_name": "posix",
}


@dataclass(frozen=True)
class Package:
    """A package with the SHA-256 of each of its installable files.

    Attributes:
        kind: type of its registry in package URLs: `pypi`, `maven`.
        group: group of a Maven artifact; empty otherwise.
    """

    kind: str
    name: str
    version: str
    hashes: tuple[str, ...]
    group: str = ""


def python_packages(lock: Path, environment: Mapping[str, str] = IMAGE_PYTHON) -> Iterator[Package]:
    """The packages of a lock file for an environment with these PEP 508 markers."""
    for entry in lock.read_text().replace("\\\n", " ").splitlines():
        line, *hashes = re.split(r"\s+--hash=sha256:", entry.strip())
        if not line or line.startswith("#"):
            continue
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(dict(environment)):
            (version,) = (pin.version for pin in requirement.specifier)
            yield Package("pypi", requirement.name, version, tuple(hashes))


def jars(lock: Path = JARS) -> Iterator[Package]:
    """Kafka's and ZooKeeper's jars."""
    for jar in tomllib.loads(lock.read_text())["dependencies"]:
        yield Package("maven", jar["artifactId"], jar["version"], (jar["sha256"],), jar["groupId"])
