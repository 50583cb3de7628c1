"""The audit of the locks, by pip-audit with a vulnerability service of the test's; and the SBOMs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.model.bom import Bom

from supply import audit, sbom
from supply.locks import ROOT, python_packages
from supply.sbom import PARTS
from tests.helpers.http_server import serving

Known = dict[tuple[str, str], str]
CANARY = {("urllib3", "1.24.1"): "CVE-2019-11324"}


@pytest.fixture
def osv() -> Iterator[Callable[[Known], str]]:
    """Starts a service that knows some vulnerabilities, as api.osv.dev answers; returns its address."""
    with ExitStack() as servers:

        def start(known: Known) -> str:
            class Handler(BaseHTTPRequestHandler):
                def do_POST(self) -> None:
                    asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                    found = known.get((asked["package"]["name"], asked["version"]))
                    body = json.dumps({"vulns": [_vulnerability(asked, found)]} if found else {}).encode()
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

                def log_message(self, *_: Any) -> None:
                    pass

            return servers.enter_context(serving(Handler)) + "/v1/query"

        yield start


def _vulnerability(asked: dict[str, Any], name: str) -> dict[str, Any]:
    package = {"name": asked["package"]["name"], "ecosystem": "PyPI"}
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999"}]}]
    return {"id": name, "affected": [{"package": package, "ranges": ranges, "versions": [asked["version"]]}]}


def package_of(lock: Path) -> str:
    """The first package of a lock file, as `name==version`."""
    package = next(python_packages(lock))
    return f"{package.name}=={package.version}"


def test_pip_audit_names_a_known_vulnerability_and_leaves_out_what_is_ignored(
    osv: Callable[[Known], str], tmp_path: Path
) -> None:
    address = osv({("one", "1.0"): "PYSEC-0000-1", ("two", "2.0"): "PYSEC-0000-2"})
    lock = tmp_path / "requirements.lock"
    sha = "0" * 64
    lock.write_text("".join(f"{each} \\\n    --hash=sha256:{sha}\n" for each in ("one==1.0", "two==2.0")))
    output = audit.pip_audit(lock, "osv", ["--osv-url", address, "--ignore-vuln", "PYSEC-0000-2"])
    assert [(package["name"], package["version"]) for package in output] == [("one", "1.0"), ("two", "2.0")]
    assert [[each["id"] for each in package["vulns"]] for package in output] == [["PYSEC-0000-1"], []]


def test_without_a_service_one_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(["--service", "osv", "--osv-url", "http://127.0.0.1:1/v1/query"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("audit: NOT DONE, ")
    assert "osv does not answer" in output
    assert len(output.splitlines()) == 1


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Known:
    """What a service knows that pip-audit asks about the packages of a file; options do not reach it."""
    known: Known = {}

    def pip_audit(file: Path, _: str, __: Sequence[str]) -> list[dict[str, Any]]:
        return [
            {"name": name, "version": version, "vulns": [vulnerability(known[name, version])]}
            if (name, version) in known
            else {"name": name, "version": version, "vulns": []}
            for name, version in re.findall(r"^([\w.-]+)==(\S+)", file.read_text(), re.MULTILINE)
        ]

    def vulnerability(name: str) -> dict[str, Any]:
        return {"id": name, "aliases": [], "fix_versions": ["999"]}

    monkeypatch.setattr(audit, "pip_audit", pip_audit)
    return known


def test_a_known_vulnerability_fails_and_is_named(service: Known, capsys: pytest.CaptureFixture[str]) -> None:
    name, version = package_of(ROOT / "requirements.lock").split("==")
    service.update({**CANARY, (name, version): "PYSEC-0000-1"})
    assert audit.main(["--service", "osv"]) == 1
    line = f"requirements.lock: {name} {version}: PYSEC-0000-1 (), fixed in 999"
    assert line in capsys.readouterr().out.splitlines()


def test_locks_without_known_vulnerabilities_pass(service: Known, capsys: pytest.CaptureFixture[str]) -> None:
    service.update(CANARY)
    assert audit.main(["--service", "osv"]) == 0
    output = capsys.readouterr().out
    assert re.fullmatch(r"audit: 0 known vulnerabilities in \d{3} locked packages \(osv\)\n", output)


def test_a_service_that_knows_nothing_is_not_believed(
    service: Known, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.main(["--service", "osv"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("audit: NOT DONE, ")
    assert "osv knows of none" in output


def test_a_bill_of_materials_lists_what_the_lock_installs(tmp_path: Path) -> None:
    sbom.main(tmp_path)
    for part in PARTS:
        output = json.loads((tmp_path / f"{part}.json").read_text())
        bom: Any = Bom
        assert bom.from_json(output).validate()
        assert output["metadata"]["component"]["name"] == f"lakefeed-{part}"
        listed = {entry["purl"] for entry in output["components"] if "purl" in entry}
        lock = list(python_packages(ROOT / part / "requirements.lock"))
        assert listed >= {f"pkg:pypi/{package.name}@{package.version}" for package in lock}
        assert all(entry["hashes"] for entry in output["components"] if "purl" in entry)
        # For Windows only.
        assert not any("colorama" in url for url in listed)
        assert "python" in {entry["name"] for entry in output["components"]}
    assert any(each.startswith("pkg:maven/io.prometheus.jmx/jmx_prometheus_javaagent@") for each in listed)
    # Kafka runs in its own image.
    assert not any(each.startswith("pkg:maven/org.apache.kafka/") for each in listed)
    assert any(url.startswith("pkg:pypi/ministack@") for url in listed)
