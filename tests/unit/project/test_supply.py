"""The audit of the locks, by pip-audit itself, with a vulnerability service of the test's; and the SBOMs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.model.bom import Bom

from supply.locks import ROOT, python_packages
from supply.sbom import PARTS

Known = dict[tuple[str, str], str]
CANARY = {("urllib3", "1.24.1"): "CVE-2019-11324"}


@pytest.fixture
def osv() -> Iterator[Callable[[Known], str]]:
    """Starts a service that knows some vulnerabilities, as api.osv.dev answers; returns its address."""
    servers: list[ThreadingHTTPServer] = []

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

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1/query"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _vulnerability(asked: dict[str, Any], name: str) -> dict[str, Any]:
    package = {"name": asked["package"]["name"], "ecosystem": "PyPI"}
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999"}]}]
    return {"id": name, "affected": [{"package": package, "ranges": ranges, "versions": [asked["version"]]}]}


def audit(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "supply.audit", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_a_known_vulnerability_fails_and_is_named(osv: Callable[[Known], str]) -> None:
    package = next(python_packages(ROOT / "requirements.lock"))
    address = osv({**CANARY, (package.name, package.version): "PYSEC-0000-1"})
    done = audit("--service", "osv", "--osv-url", address)
    assert done.returncode == 1, done.stdout + done.stderr
    line = f"requirements.lock: {package.name} {package.version}: PYSEC-0000-1 (), fixed in 999"
    assert line in done.stdout.splitlines()
    done = audit("--service", "osv", "--osv-url", address, "--ignore-vuln", "PYSEC-0000-1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_locks_without_known_vulnerabilities_pass(osv: Callable[[Known], str]) -> None:
    done = audit("--service", "osv", "--osv-url", osv(CANARY))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"audit: 0 known vulnerabilities in \d{3} locked packages \(osv\)\n", done.stdout)


def test_a_service_that_knows_nothing_is_not_believed(osv: Callable[[Known], str]) -> None:
    done = audit("--service", "osv", "--osv-url", osv({}))
    assert done.returncode == 0
    assert done.stdout.startswith("audit: NOT DONE, ")
    assert "osv knows of none" in done.stdout


def test_without_a_service_one_line_says_so() -> None:
    done = audit("--service", "osv", "--osv-url", "http://127.0.0.1:1/v1/query")
    assert done.returncode == 0
    assert done.stdout.startswith("audit: NOT DONE, ")
    assert "osv does not answer" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_a_bill_of_materials_lists_what_the_lock_installs(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "supply.sbom", str(tmp_path)], cwd=ROOT, check=True)
    for part in PARTS:
        told = json.loads((tmp_path / f"{part}.json").read_text())
        bom: Any = Bom
        assert bom.from_json(told).validate()
        assert told["metadata"]["component"]["name"] == f"lakefeed-{part}"
        listed = {entry["purl"] for entry in told["components"] if "purl" in entry}
        lock = list(python_packages(ROOT / part / "requirements.lock"))
        assert listed >= {f"pkg:pypi/{package.name}@{package.version}" for package in lock}
        assert all(entry["hashes"] for entry in told["components"] if "purl" in entry)
        # For Windows only.
        assert not any("colorama" in url for url in listed)
        assert "python" in {entry["name"] for entry in told["components"]}
    assert "pkg:maven/org.apache.kafka/kafka_2.13@3.9.1" in listed
    assert any(url.startswith("pkg:pypi/ministack@") for url in listed)
