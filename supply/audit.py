"""Asks whether a locked package has a known vulnerability: `python -m supply.audit`, a part of `make lint`.

pip-audit asks the Python Package Index, else the Open Source Vulnerabilities database. A mirror of a registry
often knows nothing of vulnerabilities and says so by silence; so each is first asked for one that is well
known. Exit code 1 when there is a finding; where nobody can be asked, one line says so. Other options are
pip-audit's own, such as `--ignore-vuln ID` for a finding that has been looked at.
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

# The locks of the images are parts of the first one.
LOCKS = (ROOT / "requirements.lock", ROOT / "bootstrap.lock", MINISTACK)
SERVICES = ("pypi", "osv")
# CVE-2019-11324.
_KNOWN = "urllib3==1.24.1\n"


class NoAnswerError(Exception):
    """The service cannot be asked, or not about everything."""


def pip_audit(file: Path, service: str, options: Sequence[str]) -> list[dict[str, Any]]:
    """What a service tells of each requirement of a file.

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
        told: list[dict[str, Any]] = orjson.loads(done.stdout)["dependencies"]
    except orjson.JSONDecodeError:
        *_, last = done.stderr.decode().splitlines() or ["it said nothing"]
        raise NoAnswerError(f"{service} does not answer ({last.partition(': ')[0]})") from None
    return told


def findings(lock: Path, service: str, options: Sequence[str]) -> tuple[int, list[str]]:
    """How many packages of a lock the service knows, and a line for each known vulnerability in them."""
    told = [package for package in pip_audit(lock, service, options) if "skip_reason" not in package]
    lines = [
        f"{lock.relative_to(ROOT)}: {package['name']} {package['version']}: {known['id']}"
        f" ({', '.join(known['aliases'])}), fixed in {', '.join(known['fix_versions']) or 'no version yet'}"
        for package in told
        for known in package["vulns"]
    ]
    return len(told), lines


def audit(service: str, options: Sequence[str]) -> list[str]:
    """A line for each known vulnerability in the locks.

    Raises:
        NoAnswerError: the service cannot tell.
    """
    with tempfile.TemporaryDirectory() as folder:
        known = Path(folder) / "known.txt"
        known.write_text(_KNOWN)
        if not any(package.get("vulns") for package in pip_audit(known, service, options)):
            raise NoAnswerError(f"{service} knows of none, as many a mirror")
    counts, found = zip(*(findings(lock, service, options) for lock in LOCKS), strict=True)
    lines = [line for each in found for line in each]
    print(f"audit: {len(lines)} known vulnerabilities in {sum(counts)} locked packages ({service})")
    return lines


def main(arguments: Sequence[str]) -> int:
    """Ask the first service that can tell; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m supply.audit", description=__doc__)
    parser.add_argument("--service", choices=SERVICES, action="append", help="ask only this one")
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
    print(f"audit: NOT DONE, nobody that is reached from here knows of vulnerabilities: {'; '.join(silent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
