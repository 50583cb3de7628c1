"""Checks locked packages for known vulnerabilities: `python -m supply.audit`, part of `make lint`.

pip-audit queries the Python Package Index, or else the Open Source Vulnerabilities database. Registry mirrors
often have no vulnerability data and return an empty list, so each service is first queried for a well-known
vulnerability. Exit code 1 if there is a finding; if no service is reachable, one line says so. Other options
are pip-audit's, such as `--ignore-vuln ID` for a reviewed finding.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from supply.locks import MINISTACK, ROOT

# The lock files of the images are subsets of the first one.
SPARK = ROOT / "spark" / "requirements.lock"
LOCKS = (ROOT / "requirements.lock", ROOT / "bootstrap.lock", SPARK, MINISTACK)
SERVICES = ("pypi", "osv")
# CVE-2019-11324.
_KNOWN = "urllib3==1.24.1\n"


class NoAnswerError(Exception):
    """The service is not reachable, or its data is incomplete."""


def pip_audit(file: Path, service: str, options: Sequence[str]) -> list[dict[str, Any]]:
    """The report of a service on each requirement in a file.

    Raises:
        NoAnswerError: it cannot be reached.
    """
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--requirement",
        str(file),
        "--vulnerability-service",
        service,
    ]
    quiet = ["--format", "json", "--progress-spinner", "off", "--disable-pip", "--no-deps", "--timeout", "10"]
    done = subprocess.run([*command, *quiet, *options], capture_output=True, check=False)
    try:
        packages: list[dict[str, Any]] = orjson.loads(done.stdout)["dependencies"]
    except orjson.JSONDecodeError:
        *_, last = done.stderr.decode().splitlines() or ["it said nothing"]
        raise NoAnswerError(f"{service} does not answer ({last.partition(': ')[0]})") from None
    return packages


def findings(lock: Path, service: str, options: Sequence[str]) -> tuple[int, list[str]]:
    """The number of packages of a lock file that were checked, and one line per known vulnerability."""
    packages = [package for package in pip_audit(lock, service, options) if "skip_reason" not in package]
    lines = [
        f"{lock.relative_to(ROOT)}: {package['name']} {package['version']}: {known['id']}"
        f" ({', '.join(known['aliases'])}), fixed in {', '.join(known['fix_versions']) or 'no version yet'}"
        for package in packages
        for known in package["vulns"]
    ]
    return len(packages), lines


def audit(service: str, options: Sequence[str]) -> list[str]:
    """One line per known vulnerability in the lock files.

    Raises:
        NoAnswerError: the service has no data.
    """
    with tempfile.TemporaryDirectory() as folder:
        known = Path(folder) / "known.txt"
        known.write_text(_KNOWN)
        if not any(package.get("vulns") for package in pip_audit(known, service, options)):
            raise NoAnswerError(f"{service} knows of none, like many mirrors")
    counts, found = zip(*(findings(lock, service, options) for lock in LOCKS), strict=True)
    lines = [line for each in found for line in each]
    print(f"audit: {len(lines)} known vulnerabilities in {sum(counts)} locked packages ({service})")
    return lines


def main(arguments: Sequence[str]) -> int:
    """Query the first usable service; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m supply.audit", description=__doc__)
    parser.add_argument("--service", choices=SERVICES, action="append", help="query only this service")
    chosen, options = parser.parse_known_args(arguments)
    silent = []
    for service in chosen.service or SERVICES:
        try:
            found = audit(service, options)
        except NoAnswerError as error:
            silent.append(str(error))
        else:
            print(*found, sep="\n", end="\n" if found else "")
            return 1 if found else 0
    print(f"audit: NOT DONE, no vulnerability service is reachable: {'; '.join(silent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
