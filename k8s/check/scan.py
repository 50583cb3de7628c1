"""The policy scan: checkov, in an environment of its own, with every finding explained or failed.

checkov asks nobody: it is told to download nothing and to look for no newer version, and whatever it would
ask nevertheless goes to a port where nobody listens.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from k8s.check.checks import distinct
from k8s.check.manifests import Finding, Rendering
from k8s.check.render import ROOT
from lakefeed_common.errors import LakefeedError

SKIPS = Path(__file__).with_name("skips.yaml")
ENVIRONMENT = ROOT / "build" / "checkov"


class CannotScanError(LakefeedError):
    """The scanner is not set up, it failed, or the file of explained findings is wrong."""


@dataclass(frozen=True)
class Skip:
    """A finding that is right as it is; `resource` is a regular expression of `Kind.name`."""

    check: str
    resource: str
    reason: str

    def fits(self, check: str, resource: str) -> bool:
        """Whether it explains this finding."""
        return self.check == check and re.fullmatch(self.resource, resource) is not None


def read_skips(file: Path = SKIPS) -> list[Skip]:
    """The explained findings.

    Raises:
        CannotScanError: one has no reason, or is not a finding.
    """
    skips = []
    for entry in yaml.safe_load(file.read_text(encoding="utf-8")) or []:
        if set(entry) != {"check", "resource", "reason"} or not all(entry.values()):
            raise CannotScanError(f"{file.name}: each entry has check, resource and reason, unlike {entry}")
        skips.append(Skip(entry["check"], entry["resource"], entry["reason"]))
    return skips


def scan(renderings: Sequence[Rendering], skips: Sequence[Skip]) -> list[Finding]:
    """What the scanner finds in any resource and no skip explains, and the skips that explain nothing.

    Raises:
        CannotScanError: the scanner is not there, or fails.
    """
    failed = list(_failed(_run(renderings)))
    left = [
        Finding("policy scan", resource, f"{check}: {title}")
        for check, title, resource in sorted(set(failed))
        if not any(skip.fits(check, resource) for skip in skips)
    ]
    idle = [
        Finding("policy scan", SKIPS.name, f"{skip.check} for {skip.resource} explains no finding: remove it")
        for skip in skips
        if not any(skip.fits(check, resource) for check, _, resource in failed)
    ]
    return left + idle


def _run(renderings: Sequence[Rendering]) -> list[dict[str, Any]]:
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        raise CannotScanError("the policy scanner is not set up: `make k8s-check` does it")
    with tempfile.TemporaryDirectory(prefix="lakefeed-scan-") as folder:
        for name, bodies in _files(renderings):
            (Path(folder) / f"{name}.yaml").write_text(yaml.safe_dump_all(bodies), encoding="utf-8")
        command = [str(python), "-m", "checkov.main", "--directory", folder, "--framework", "kubernetes"]
        quiet = ["--skip-download", "--quiet", "--compact", "--output", "json"]
        done = subprocess.run(
            [*command, *quiet], capture_output=True, text=True, check=False, env=_environment(folder)
        )
    try:
        told = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise CannotScanError(f"checkov failed: {(done.stderr or done.stdout).strip()[-2000:]}") from None
    return told if isinstance(told, list) else [told]


def _environment(home: str) -> dict[str, str]:
    """No token of anybody's, a home folder that is thrown away, and no way out."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": home,
        "LOG_LEVEL": "ERROR",
        "CKV_SKIP_PACKAGE_UPDATE_CHECK": "true",
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }


def _files(renderings: Sequence[Rendering]) -> Iterator[tuple[str, list[Any]]]:
    """Each overlay as it is, and every other resource once."""
    for number, rendering in enumerate(each for each in renderings if each.applied):
        yield f"overlay-{number}", [resource.body for resource in rendering.resources]
    yield "components", [resource.body for _, resource in distinct(renderings)]


def _failed(reports: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Check, its title, and `Kind.name` of each failed check."""
    for report in reports:
        if report.get("summary", report).get("parsing_errors"):
            unread = report["results"]["parsing_errors"]
            raise CannotScanError(f"checkov could not read all manifests: {unread}")
        for found in report.get("results", {}).get("failed_checks", []):
            kind, _, rest = found["resource"].partition(".")
            # `Kind.namespace.name`, or more for what a workload makes.
            yield found["check_id"], found["check_name"], f"{kind}.{rest.partition('.')[2]}"
