"""Reads the hashed locks."""

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
# Where the images' Python differs from the one that runs this.
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
    """A package with the SHA-256 of each file that may be installed of it.

    Attributes:
        kind: of its registry, as package URLs name it: `pypi`, `maven`.
        group: of a Maven artifact; empty otherwise.
    """

    kind: str
    name: str
    version: str
    hashes: tuple[str, ...]
    group: str = ""


def python_packages(lock: Path, environment: Mapping[str, str] = IMAGE_PYTHON) -> Iterator[Package]:
    """The packages of a lock that an environment gets; markers are those of PEP 508."""
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
